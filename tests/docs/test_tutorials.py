"""The tutorials do what they say: their blocks are run in order, in an empty folder, and print what the page shows."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_neft.cli.main import main
from pages import DOCS, Block, blocks, commands

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `srun` command is available"),
    # A batch of two lengths tells Lightning no batch size that it would trust.
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]


def assert_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run a page's Python in one namespace and its commands in this process; they print what the page shows."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        if block.language == "python":
            capsys.readouterr()
            # Tracebacks and warnings then name the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
            if block.says is not None:
                assert capsys.readouterr().out == block.says, place
        elif block.language == "console":
            run_commands(block, place, capsys)
    return names


def run_commands(block: Block, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run commands; what the page shows is a part of what they print, or the error that they end with."""
    capsys.readouterr()
    is_error = block.says is not None and block.says.startswith("lightning_neft: ")
    for program, *args in commands(block):
        if program == "lightning_neft":
            assert main(args) == (2 if is_error else 0), f"{place}: {args}"
        else:
            run_program(program, args, place)
    printed = capsys.readouterr()
    if block.says is not None:
        assert block.says.strip() in (printed.err if is_error else printed.out), place


def run_program(program: str, args: list[str], place: str) -> None:
    """Run what is no verb of ours, as `torchrun`, from this environment."""
    command = [str(Path(sys.executable).with_name(program)), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{place}: {done.stderr[-3000:]}"
    print(done.stdout)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_callback_tutorial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = assert_page_runs(DOCS / "tutorials" / "callback.md", capsys)
    # The page ends where it says: nothing is left on the model of the first fit.
    assert not names["module"].model.get_input_embeddings()._forward_hooks


def test_the_tutorial_for_those_who_come_from_trl(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = assert_page_runs(DOCS / "tutorials" / "from-trl.md", capsys)
    assert names["theirs"] == pytest.approx(names["ours"](length="padded"), rel=0.05)


def test_the_tutorial_on_encoders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = assert_page_runs(DOCS / "tutorials" / "encoder.md", capsys)
    assert not names["table"]._forward_hooks


def test_the_tutorial_on_litgpt_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("litgpt", reason="needs litgpt")
    names = assert_page_runs(DOCS / "tutorials" / "litgpt.md", capsys)
    assert names["noise"].targets == []


@pytest.mark.slow
def test_the_tutorial_on_several_gpus(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_page_runs(DOCS / "tutorials" / "several-gpus.md", capsys)


@pytest.mark.slow
def test_the_recipe_tutorial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_page_runs(DOCS / "tutorials" / "recipe.md", capsys)
    assert (folder / "runs" / "quickstart" / "version_1" / "config.yaml").is_file()
    assert (folder / "my-model" / "README.md").is_file()


@pytest.mark.slow
def test_the_tutorial_on_data_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_page_runs(DOCS / "tutorials" / "own-data.md", capsys)
    assert (folder / "runs" / "animals" / "version_0" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_tutorial_on_study_and_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_page_runs(DOCS / "tutorials" / "does-it-help.md", capsys)
    assert (folder / "runs" / "study-quickstart" / "report.html").is_file()
    assert "Plain and noisy" in (folder / "answers.html").read_text(encoding="utf-8")


# The batches of the page are all of its 12 rows: an epoch of 3 steps.
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_the_page_on_callbacks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_page_runs(DOCS / "callbacks.md", capsys)
    assert Path("model/config.json").is_file()


@pytest.mark.parametrize("name", ["custom-embedding", "hf-trainer", "trainer"])
def test_the_how_tos(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert assert_page_runs(DOCS / "how-to" / f"{name}.md", capsys)["trainer"] is not None


def test_the_configs_for_hydra_name_a_class_and_its_options() -> None:
    configs = [yaml.safe_load(block.text) for block in blocks(DOCS / "how-to" / "hydra.md") if block.language == "yaml"]
    (callback,) = configs[0]["trainer"]["callbacks"]
    for options in (callback, configs[1]["neftune"]):
        module, _, name = options.pop("_target_").rpartition(".")
        assert getattr(importlib.import_module(module), name)(**options).alpha == 5


def test_each_tutorial_has_a_test() -> None:
    pages = {page.name for page in (DOCS / "tutorials").glob("*.md")}
    assert pages == {
        "callback.md",
        "does-it-help.md",
        "encoder.md",
        "from-trl.md",
        "litgpt.md",
        "own-data.md",
        "real-model.md",  # tests/real
        "recipe.md",
        "several-gpus.md",
    }
