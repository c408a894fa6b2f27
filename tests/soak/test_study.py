"""Studies that are killed at 20 random moments, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lightning_neft.evaluation.result import read_result
from soak.kills import KILLS, Moments, live

pytestmark = [pytest.mark.soak, pytest.mark.slow]


class Program:
    """The program in a process of its own."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("a") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file, env=dict(os.environ))

    def poll(self) -> int | None:
        return self._process.poll()

    def send(self, number: int) -> int:
        self._process.send_signal(number)
        return self._process.wait(timeout=120)


def study(out: Path) -> list[str]:
    options = [
        *("--data.source=data.json", "--data.batch_size=1", "--data.val_size=2", "--model.learning_rate=1e-3"),
        *("--trainer.max_epochs=4", "--trainer.log_every_n_steps=1", "--clean_loss=1", "--samples=0"),
        *("--trainer.enable_model_summary=false", "--trainer.accelerator=cpu", "--data.cache_dir=cache"),
        *("--alphas=0,5", "--seeds=2", "--answers=2", "--max-new-tokens=4", f"--out={out}", "--retry"),
        # Seconds without a sign of life, after which an arm is taken from a worker: a start takes longer.
        "--grace=2",
    ]
    return [sys.executable, "-m", "lightning_neft", "study", *options]


def arms(out: Path) -> list[dict[str, Any]]:
    found = read_result(out / "study.json")["arms"]
    for arm in found:
        arm.pop("seconds")
        # A rate.
        arm["curves"].pop("train/tokens_per_second", None)
    return found


def complete(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("arms/*/arm.json")}


def test_studies_that_are_killed_at_random_moments_end_as_the_unbroken_one(folder: Path) -> None:
    words = ("cat", "dog", "hen", "fox", "owl", "bee", "ant", "elk")
    (folder / "data.json").write_text(
        json.dumps([{"instruction": f"Say {word}.", "output": f"{word} it is"} for word in words])
    )
    whole, log = folder / "whole", folder / "log"
    began = time.monotonic()
    process = Program(study(whole), log)
    first = None
    while process.poll() is None:
        if first is None and (whole / "arms").exists():
            first = time.monotonic() - began
        time.sleep(0.01)
    assert process.poll() == 0, log.read_text()
    assert first is not None
    # Before the first arm starts there is nothing to lose.
    moments = Moments(seed=17, earliest=first, latest=time.monotonic() - began)
    kills = lives = 0
    while kills < KILLS:
        out, kept = folder / f"o{lives}", {}

        def start(out: Path = out, kept: dict[str, bytes] = kept) -> Program:
            # An arm that has ended is as it was.
            assert kept.items() <= complete(out).items()
            kept.update(complete(out))
            return Program(study(out), log)

        kills += live(start, moments)
        lives += 1
        assert kept.items() <= complete(out).items()
        assert arms(out) == arms(whole)
        assert (out / "report.html").exists()
    print(f"study: {kills} kills in {lives} studies of {len(arms(whole))} arms; all end as the unbroken one")
