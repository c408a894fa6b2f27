"""Studies that are killed at 20 random moments, each with the arm that it runs."""

from __future__ import annotations

import json
import multiprocessing
import time
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from forked import Forked
from lightning_neft.cli.main import main
from lightning_neft.evaluation.result import read_result
from soak.kills import KILLS, Moments, live

# Before the first fork.
import_module("lightning_neft.cli.study")
import_module("lightning_neft.cli.study_arm")
import_module("lightning_neft.report.page")
pytestmark = [pytest.mark.soak, pytest.mark.slow]


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have arms begin with what this process has imported: that they import it themselves is tested with one kill."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr("lightning_neft.study.arm.multiprocessing.get_context", lambda method: context)


def study(out: str) -> int:
    options = [
        *("--data.source=data.json", "--data.batch_size=1", "--data.val_size=2", "--model.learning_rate=1e-3"),
        *("--trainer.max_epochs=4", "--trainer.log_every_n_steps=1", "--clean_loss=1", "--samples=0"),
        *("--trainer.enable_model_summary=false", "--trainer.accelerator=cpu", "--data.cache_dir=cache"),
        *("--alphas=0,5", "--seeds=2", "--answers=2", "--max-new-tokens=4", f"--out={out}", "--retry"),
        # Seconds without a sign of life after which an arm is taken over.
        "--grace=2",
    ]
    # Errors in tests alone.
    warnings.simplefilter("ignore")
    return main(["study", *options])


def arms(out: Path) -> list[dict[str, Any]]:
    found = read_result(out / "study.json")["arms"]
    for arm in found:
        arm.pop("seconds")
        # A rate.
        arm["curves"].pop("train/tokens_per_second", None)
    return found


def complete(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("arms/*/arm.json")}


@pytest.mark.usefixtures("forking")
def test_killed_studies_end_as_an_uninterrupted_one(folder: Path) -> None:
    words = ("cat", "dog", "hen", "fox", "owl", "bee", "ant", "elk")
    (folder / "data.json").write_text(
        json.dumps([{"instruction": f"Say {word}.", "output": f"{word} it is"} for word in words])
    )
    whole, log = folder / "whole", folder / "log"
    began = time.monotonic()
    assert Forked(partial(study, "whole"), log).wait(300) == 0, log.read_text()
    moments = Moments(seed=17, earliest=0, latest=time.monotonic() - began)
    kills = lives = 0
    while kills < KILLS:
        out, kept = folder / f"o{lives}", {}

        def start(out: Path = out, kept: dict[str, bytes] = kept) -> Forked:
            # An arm that has ended is as it was.
            assert kept.items() <= complete(out).items()
            kept.update(complete(out))
            return Forked(partial(study, out.name), log)

        # A fourth one in the same arm, and the study would take it for one that is out of memory.
        kills += live(start, moments, most=3)
        lives += 1
        assert kept.items() <= complete(out).items()
        assert arms(out) == arms(whole)
        assert (out / "report.html").exists()
    print(f"study: {kills} kills in {lives} studies of {len(arms(whole))} arms; all end as the unbroken one")
