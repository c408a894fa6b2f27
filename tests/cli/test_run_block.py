"""What a fit prints: what it will train, and the commands for its run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lightning_neft.cli.main import main


def block(printed: str) -> dict[str, str]:
    """The rows of the block, in a pipe `name: value`; those of files at the end have other names."""
    names = ("base", "data", "steps", "noise", "device", "precision", "resumes", "run folder")
    rows = [line.partition(": ") for line in printed.splitlines()]
    return {name: text for name, _, text in rows if name in names}


def test_the_commands_that_a_fit_names_work_on_its_run(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--name=my run", "--model.lora.r=4", "--samples=0", "--trainer.accumulate_grad_batches=2"]
    assert main(["fit", *short, *given, "--trainer.max_steps=1"]) == 0
    printed = capsys.readouterr().out
    assert block(printed) == {
        "base": "tiny, LoRA r=4",
        "data": "data.json: 4 training samples, 2 for validation",
        "steps": "1, 4 rows each (1 device x 2 batches x 2)",
        "noise": "alpha 5, length true",
        "device": "cpu",
        "precision": "32-true (tiny is too small to gain from bfloat16)",
        "run folder": "runs/my run/version_0",
    }
    assert printed.index("run folder: ") < printed.index("after step 1")
    after = printed.splitlines()
    commands = [shlex.split(line) for line in after[after.index("next:") + 1 :]]
    assert [words[:2] for words in commands] == [
        ["lightning_neft", verb] for verb in ("generate", "export", "evaluate", "report")
    ]
    for _, *words in commands:
        more = ["--max_new_tokens=2"] if words[0] == "generate" else []
        assert main([*words, *more]) == 0, words
    assert (folder / "runs/my run/version_0/report.html").exists()
    assert (folder / "runs/my run/version_0/export/config.json").exists()


def test_a_fit_that_saves_nothing_says_so_and_names_no_commands(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *short, "--neftune=null", "--samples=0", "--trainer.fast_dev_run=true"]) == 0
    printed = capsys.readouterr().out
    rows = block(printed)
    assert rows["steps"] == "1, 2 rows each"
    assert (rows["noise"], rows["run folder"]) == ("off", "none: nothing is saved")
    assert "next:" not in printed
