"""The tutorial on a real model does what it says, on the folder of the base and a file of the data."""

from __future__ import annotations

from pathlib import Path

from lightning_neft.cli.main import main
from pages import DOCS, blocks, commands

PAGE = DOCS / "tutorials" / "real-model.md"


def test_from_nothing_to_a_model_that_answers(smollm2: Path, dolly_3k: Path, folder: Path) -> None:
    base = folder / "HuggingFaceTB" / "SmolLM2-135M-Instruct"
    base.parent.mkdir()
    base.symlink_to(smollm2)
    for block in blocks(PAGE):
        for _, *args in commands(block) if block.language == "console" else []:
            source = [f"--data.source={dolly_3k}"] if "--config" in args else []
            assert main([*args, *source]) == 0, args
    assert (folder / "my-smollm2" / "README.md").is_file()
