"""Answers and verdicts in the making that are killed at 20 random moments."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from forked import Forked
from judge_server import JudgeServer, running
from lightning_neft.cli.main import main
from soak.kills import KILLS, Moments, live

pytestmark = [
    pytest.mark.soak,
    pytest.mark.slow,
    # The server of the tests answers in threads of its own.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
WORKERS = 3


def run(*args: str) -> int:
    """Run the program. It imports what it needs when it needs it: the first time a process, later ones for free."""
    return main(list(args))


def test_killed_answers_end_as_uninterrupted_ones(folder: Path) -> None:
    rows = [
        {"instruction": f"What is the plural of {word} {n}?"} for word in ("cat", "a hen", "owl") for n in range(20)
    ]
    (folder / "p.json").write_text(json.dumps(rows))
    command = ["generate", "--model=tiny", "--template=alpaca", "--device=cpu", "--input=p.json", "--batch-size=2"]
    assert run(*command, "--output=first.json", "--max-new-tokens=2") == 0
    began = time.monotonic()
    assert Forked(partial(run, *command, "--output=whole.json"), folder / "log").wait() == 0
    moments = Moments(seed=11, earliest=0, latest=time.monotonic() - began)
    kills = lives = 0
    while kills < KILLS:
        output, seen = folder / f"o{lives}.json", set()

        def start(output: Path = output, seen: set[str] = seen) -> Forked:
            journal = Path(f"{output}.partial.jsonl")
            lines = journal.read_text().split("\n") if journal.exists() else [""]
            # What was whole at the kill before is still there.
            assert seen <= set(lines[1:-1])
            seen.update(lines[1:-1])
            return Forked(partial(run, *command, f"--output={output}"), folder / "log")

        kills += live(start, moments)
        lives += 1
        assert output.read_bytes() == (folder / "whole.json").read_bytes()
        assert not Path(f"{output}.partial.jsonl").exists()
    print(f"generate: {kills} kills in {lives} files; all end as the unbroken one")


class Deliberate(JudgeServer):
    """Takes its time for each answer, and fails sometimes."""

    def fault_of(self, prompt: str) -> str | None:
        time.sleep(0.02)
        return super().fault_of(prompt)


def test_a_killed_judging_ends_as_an_uninterrupted_one(folder: Path) -> None:
    def write(name: str, lengths: list[int]) -> None:
        rows = [
            {"instruction": f"Question {index}?", "output": name[0] * length, "generator": name, "dataset": "toy"}
            for index, length in enumerate(lengths)
        ]
        (folder / f"{name}.json").write_text(json.dumps(rows))

    write("base", [50] * 80)
    write("noisy", [(index * 37) % 99 + 1 for index in range(80)])

    def judge(server: JudgeServer, out: str) -> int:
        options = ["--judge=cheap", f"--judge-url={server.url}", f"--workers={WORKERS}", f"--out={out}"]
        return run("evaluate", "--outputs=noisy.json", "--baseline=base.json", *options)

    def verdicts(out: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(folder / out / "verdicts.sqlite")) as ledger:
            return ledger.execute("SELECT key, verdict, input_tokens FROM replies ORDER BY key, attempt").fetchall()

    def files(out: str) -> dict[str, object]:
        found = {path.name: json.loads(path.read_text()) for path in (folder / out).glob("[!.]*.json")}
        for result in found.values():
            if isinstance(result, dict):
                result["provenance"].pop("created")
                result.pop("usage_this_run")
        return found

    kills = lives = again = 0
    with running(Deliberate()) as server:
        # Once before, for what is imported late.
        assert judge(server, "first") == 0
        began = time.monotonic()
        assert Forked(partial(judge, server, "whole"), folder / "log").wait() == 0
        moments = Moments(seed=13, earliest=0, latest=time.monotonic() - began)
        while kills < KILLS:
            out = f"o{lives}"
            server.answered.clear()
            killed = live(lambda out=out: Forked(partial(judge, server, out), folder / "log"), moments)
            assert len(verdicts(out)) == 160
            assert verdicts(out) == verdicts("whole")
            assert files(out) == files("whole")
            # Only what was on its way at a kill is asked for again.
            assert 160 <= sum(server.answered.values()) <= 160 + killed * WORKERS
            again += sum(server.answered.values()) - 160
            kills += killed
            lives += 1
    print(f"judge: {kills} kills in {lives} runs; all end as the unbroken one; {again} replies were asked for again")
