"""Verbs that do not train, stopped by Ctrl-C and SIGTERM or killed: what they have is kept, and goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from forked import Forked
from judge_server import JudgeServer, running
from lightning_neft.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
STOPS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


def until(is_true: Callable[[], bool], process: Forked) -> None:
    while not is_true():
        assert process.poll() is None, "it ended before its time"
        time.sleep(0.002)


def own_lines(text: str) -> list[str]:
    assert "Traceback" not in text
    return [line for line in text.splitlines() if line.startswith("lightning_neft: ")]


@pytest.fixture
def generating(folder: Path) -> Callable[[str], int]:
    rows = [{"instruction": f"What is the plural of {word}?"} for word in ("cat", "hen", "owl", "bee", "ant") * 4]
    (folder / "p.json").write_text(json.dumps(rows))
    command = ["generate", "--model=tiny", "--template=alpaca", "--device=cpu", "--input=p.json", "--batch-size=1"]

    def generate(output: str) -> int:
        return main([*command, "--max-new-tokens=40", f"--output={output}"])

    return generate


def kept(output: str) -> int:
    """How many answers are in the journal."""
    journal = Path(f"{output}.partial.jsonl")
    return max(0, journal.read_text().count("\n") - 1) if journal.exists() else 0


def test_a_file_of_answers_goes_on_after_each_way_to_end(generating: Callable[[str], int], folder: Path) -> None:
    assert generating("whole.json") == 0
    for after, (number, code) in zip((2, 5, 8, 11), [*STOPS, *[(signal.SIGKILL, -9)] * 2], strict=True):
        log = folder / f"log-{after}"
        process = Forked(partial(generating, "o.json"), log)
        until(lambda after=after: kept("o.json") >= after, process)
        assert process.send(number) == code
        found = kept("o.json")
        assert after <= found < 20
        if number != signal.SIGKILL:
            (line,) = own_lines(log.read_text())
            assert line == (
                f"lightning_neft: stopped; {found} of 20 answers are in o.json.partial.jsonl, "
                "repeat the command to resume"
            )
        assert not (folder / "o.json").exists()
    assert generating("o.json") == 0
    assert (folder / "o.json").read_bytes() == (folder / "whole.json").read_bytes()
    assert kept("o.json") == 0


class Slow(JudgeServer):
    """Takes its time."""

    def fault_of(self, prompt: str) -> str | None:
        time.sleep(0.01)
        return super().fault_of(prompt)


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_judging_that_is_stopped_pays_for_nothing_twice(number: int, code: int, folder: Path) -> None:
    for name, length in (("base", 40), ("noisy", 70)):
        rows = [{"instruction": f"Question {n}?", "output": name[0] * length, "generator": name} for n in range(40)]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    with running(Slow()) as server:
        options = ["--judge=cheap", f"--judge-url={server.url}", "--workers=2", "--out=out"]
        command = ["evaluate", "--outputs=noisy.json", "--baseline=base.json", *options]
        process = Forked(partial(main, command), folder / "log")
        until(lambda: sum(server.answered.values()) > 10, process)
        assert process.send(number) == code
        assert 10 < sum(server.answered.values()) < 80
        assert own_lines((folder / "log").read_text()) == [
            "lightning_neft: stopped; the verdicts so far are kept in out/verdicts.sqlite, repeat the command to resume"
        ]
        assert sorted(path.name for path in (folder / "out").iterdir()) == ["verdicts.sqlite", "verdicts.sqlite.lock"]
        assert main(command) == 0
        assert sum(server.answered.values()) == 80


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_losses_that_are_stopped_leave_one_line_and_no_result(
    number: int,
    code: int,
    folder: Path,
    short: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*args: object, **options: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr("lightning_neft.evaluation.clean_loss.clean_losses", stop)
    handlers = [signal.getsignal(one) for one, _ in STOPS]
    assert main(["evaluate", "--clean-loss", *short, "--out=out"]) == code
    # As they were, so that a second one is not lost.
    assert [signal.getsignal(one) for one, _ in STOPS] == handlers
    assert own_lines(capsys.readouterr().err) == ["lightning_neft: stopped"]
    assert not (folder / "out").exists()
