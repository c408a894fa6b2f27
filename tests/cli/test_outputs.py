"""What a verb writes: never in the place of what it reads, and of nothing else unless told to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bad_input.refusals import ANNOTATIONS, OUTPUTS, RECORDS
from lightning_neft.cli.main import main
from lightning_neft.evaluation.result import read_result
from report.example import leave_out_drawing

_ANSWERS = "generate --model=tiny --template=alpaca --device=cpu --max-new-tokens=1"


@pytest.fixture(autouse=True)
def files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of each kind of input, and plots that take no time."""
    leave_out_drawing(monkeypatch)
    for name, content in (("data", RECORDS), ("outputs", OUTPUTS), ("annotations", ANNOTATIONS)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "run.yaml").write_text("data: {source: data.json, val_size: 2}\n")
    return folder


def line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        path.relative_to(folder).as_posix(): path.readlink().as_posix() if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


_JUDGED = "evaluate --judge=local:tiny --outputs outputs.json"
# A command line, its option for the output, and the input that is to be replaced.
INPUTS = [
    ("evaluate --outputs outputs.json", "--out", "outputs.json"),
    ("evaluate --memorization --outputs outputs.json", "--out", "outputs.json"),
    ("evaluate --annotations annotations.json", "--out", "annotations.json"),
    ("evaluate --judge=local:tiny --outputs outputs.json --baseline data.json", "--out", "data.json"),
    (
        "evaluate --judge=local:tiny --outputs outputs.json --baseline outputs.json --verdicts paid.json",
        "--out",
        "paid.json",
    ),
    ("evaluate --ablation --model=tiny --template=alpaca --prompts=data.json", "--out", "data.json"),
    ("evaluate --clean-loss --config=run.yaml", "--out", "data.json"),
    ("report outputs.json", "--out", "outputs.json"),
    (f"{_ANSWERS} --input=data.json", "--output", "data.json"),
    (f"{_ANSWERS} --input=dat*.json", "--output", "data.json"),
]


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.parametrize(("command", "option", "source"), INPUTS)
def test_an_output_never_replaces_an_input(
    command: str,
    option: str,
    source: str,
    link: Callable[[str, str], None] | None,
    files: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ending = ".html" if command.startswith("report") else ".json"
    (files / source).touch()
    # The name says what kind of file it is.
    named = f"in{ending}" if link is None else f"link{ending}"
    if link is None:
        (files / source).rename(files / named)
        command = command.replace(source, named).replace("dat*.json", "i*.json")
        (files / "run.yaml").write_text(f"data: {{source: {named}, val_size: 2}}\n")
    else:
        link(source, named)
    before = contents(files)
    for more in ([], ["--overwrite"]):
        assert main([*command.split(), option, named, *more]) == 2
        told = line(capsys)
        # What is read is known later where a config or a source says it.
        is_first = not more and "exists and is not a result" in told
        assert is_first or f"{option} {named} is an input of this command" in told
    assert contents(files) == before


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("evaluate --outputs outputs.json", "--out", "mine.json"),
        ("evaluate --annotations annotations.json", "--out", "mine.json"),
        ("report outputs.json", "--out", "mine.html"),
        (f"{_ANSWERS} --input=data.json", "--output", "mine.json"),
    ],
)
def test_a_file_is_replaced_only_when_told(
    command: str, option: str, name: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / name).write_text("mine")
    (files / "link").symlink_to(name)
    before = contents(files)
    assert main([*command.split(), option, name]) == 2
    assert "exists" in line(capsys)
    assert contents(files) == before
    assert main([*command.split(), option, name, "--overwrite"]) == 0
    assert (files / name).read_text() != "mine"
    written = contents(files)
    # An earlier result of the same is replaced, but answers say nothing of their settings.
    assert main([*command.split(), option, name]) == (2 if "generate" in command else 0)
    assert contents(files).keys() == written.keys()


def test_a_link_as_the_output_is_followed(files: Path) -> None:
    (files / "link.json").symlink_to("there.json")
    assert main(["evaluate", "--outputs", "outputs.json", "--out", "link.json"]) == 0
    assert (files / "link.json").is_symlink()
    assert read_result(files / "there.json")["kind"] == "text_statistics"


def test_a_result_of_other_settings_is_kept(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--outputs", "outputs.json", "--out", "a.json"]
    assert main(command) == 0
    before = (files / "a.json").read_bytes()
    assert main([*command, "--first-k-tokens=5"]) == 2
    told = line(capsys)
    assert "--out a.json is a result of other files or settings, so it was kept" in told
    assert "the new result is in a-2.json; add --overwrite" in told
    assert (files / "a.json").read_bytes() == before
    assert read_result(files / "a-2.json")["first_k_tokens"] == 5
    assert main(["evaluate", "--annotations", "annotations.json", "--out", "a.json"]) == 2
    assert "a.json exists and is a result of kind text_statistics, not win_rate" in line(capsys)
    assert main([*command, "--first-k-tokens=5", "--overwrite"]) == 0
    assert read_result(files / "a.json")["first_k_tokens"] == 5


def test_a_folder_of_results_is_never_replaced(files: Path) -> None:
    results = files / "results"
    results.mkdir()
    mine = {"mine-text_statistics.json": "mine", "mine-local-annotations.json": "mine"}
    for name, text in mine.items():
        (results / name).write_text(text)
    (results / "mine-text_statistics-2.json").symlink_to("../data.json")
    data = (files / "data.json").read_bytes()
    assert main(["evaluate", "--outputs", "outputs.json"]) == 0
    assert {name: (results / name).read_text() for name in mine} == mine
    assert (files / "data.json").read_bytes() == data
    assert read_result(results / "mine-text_statistics-3.json")["label"] == "mine"


def test_annotations_replace_only_those_of_the_same_pairs(files: Path) -> None:
    base = [{**row, "output": "cat", "generator": "base"} for row in OUTPUTS]
    (files / "base.json").write_text(json.dumps(base))
    command = ["evaluate", "--judge=local:tiny", "--outputs", "outputs.json", "--baseline", "base.json", "--out", "out"]

    def names() -> list[str]:
        return sorted(path.name for path in (files / "out").glob("*annotations*"))

    assert main(command) == 0
    (first,) = names()
    before = (files / "out" / first).read_bytes()
    assert main(command) == 0
    assert names() == [first]
    (files / "base.json").write_text(json.dumps([{**row, "output": "a dog"} for row in base]))
    assert main(command) == 0
    assert len(names()) == 2
    assert (files / "out" / first).read_bytes() == before


def test_a_page_replaces_one_of_the_same_files_alone(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "outputs.json"]) == 0
    (files / "outputs.json").write_text(json.dumps(OUTPUTS[:2]))
    assert main(["report", "outputs.json", "--title=Again"]) == 0
    assert "<title>Again" in (files / "report.html").read_text(encoding="utf-8")
    (files / "others.json").write_text(json.dumps(OUTPUTS))
    assert main(["report", "others.json"]) == 2
    assert "--out report.html exists; give another name, or --overwrite" in line(capsys)
    assert "<title>Again" in (files / "report.html").read_text(encoding="utf-8")


def test_predictions_are_numbered(short: list[str], files: Path) -> None:
    options = ["predict", *short, "--trainer.logger=false", "--trainer.default_root_dir=.", "--samples=0"]
    (files / "predictions.jsonl").write_text("mine")
    assert main(options) == 0
    written = [path for path in files.rglob("predictions*.jsonl") if path.read_text() != "mine"]
    assert len(written) == 1
    assert (files / "predictions.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["study.json", "report.html"])
def test_a_study_leaves_files_of_others_in_its_folder(
    name: str, short: list[str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "out").mkdir()
    (files / "out" / name).write_text("mine")
    before = contents(files)
    assert main(["study", "--alphas=0,5", *short, "--out=out"]) == 2
    assert f"--out out contains {name} but no study" in line(capsys)
    assert contents(files) == before
