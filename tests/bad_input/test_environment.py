"""Wrong variables of launchers, closed or full streams, and arguments that are not text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bad_input.refusals import FIT, PREVIEW, PROGRAM, RECORDS, Case, put
from lightning_neft.cli.main import main


@pytest.mark.parametrize("command", [FIT, PREVIEW, "doctor --model=tiny", "study --alphas=0,5", "evaluate --judge=j"])
@pytest.mark.parametrize("name", ["LOCAL_RANK", "SLURM_NTASKS"])
def test_a_rank_that_is_no_number_is_named(
    name: str, command: str, assert_refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    assert_refused(Case(name, command, (f"{name}='x'",)))


def test_a_job_of_several_tasks_may_preview(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an interactive job of SLURM, which sets the variable for each program in it."""
    put(folder / "data.json", RECORDS)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert main([*PREVIEW.split(), "--data.source=data.json"]) == 0


def test_a_job_of_several_tasks_is_refused_by_a_fit(
    assert_refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert_refused(Case("a job", FIT, ("--ntasks-per-node=2",), is_foreign=True))


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--name=a\udcff"],
        ["generate", "--model=tiny", "--prompt=\udcff"],
        ["\udcff"],
        ["recipes", "show", "\udcff"],
    ],
    ids=repr,
)
def test_bytes_that_are_no_text_are_shown(
    words: list[str], capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert r"\udcff" in line
    snapshot(line.removeprefix(PROGRAM).removesuffix("\n"))


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "<&-"])
@pytest.mark.parametrize(("words", "code"), [("recipes list --model=tiny", 0), ("recipes lst", 2)])
def test_closed_streams_change_no_exit_code(words: str, code: int, streams: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m lightning_neft {words} {streams}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_is_full_is_one_line(snapshot: Callable[[str], None]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lightning_neft", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    snapshot(done.stderr.removeprefix(PROGRAM).removesuffix("\n"))
