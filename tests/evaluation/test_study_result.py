"""The result of a study: what is written is what is read."""

from __future__ import annotations

import json
import math

from lightning_neft.evaluation.records import Output
from lightning_neft.evaluation.result import Fields, make_result, provenance
from lightning_neft.evaluation.study_result import ArmResult, Comparison, StudyResult


def test_a_study_is_read_as_it_was_written() -> None:
    trained = ArmResult(
        alpha=0.0,
        seed=0,
        state="complete",
        seconds=1.5,
        folder="arms/alpha-0-seed-0",
        held_out_loss=2.0,
        train_clean_loss=1.0,
        held_out_per_sample=(1.0, 3.0),
        train_per_sample=(1.0,),
        curves={"train/loss": ((1, 2.0), (2, 1.5))},
        text_statistics=Fields({"mean_words": 3.5}, "study.json: arms[0]: text_statistics"),
        answers=[Output("Why?", "So.", input="this", reference="Because."), Output("Who?", "Me.", reference=None)],
        steps=2,
        digests={"data": "aa", "weights": "bb"},
    )
    waiting = ArmResult(alpha=5.0, seed=0, state="waiting")
    comparison = Comparison(
        alpha=5.0,
        metric="held_out_loss",
        difference=-0.1,
        low=-0.2,
        high=0.0,
        n_seeds=1,
        n_samples=2,
        verdict="no verdict",
    )
    study = StudyResult(label="mine", recipe="quickstart", arms=[trained, waiting], comparisons=[comparison])
    written = json.dumps(make_result("study", study.label, study.metrics(), provenance([], {}, None)), allow_nan=False)
    read = StudyResult.read(Fields(json.loads(written), "study.json"))
    assert read.metrics() == study.metrics()
    # An older file does not state them.
    assert (read.model, read.data, read.steps) == ("", "", None)
    assert (read.label, read.alphas, [arm.name for arm in read.in_state("waiting")]) == (
        "mine",
        [0.0, 5.0],
        ["alpha 5, seed 0"],
    )
    assert read.comparisons == study.comparisons
    assert read.arms[0].answers == study.arms[0].answers


def test_model_data_and_steps_are_those_of_the_settings() -> None:
    settings = {"model": "owner/base", "data": "alpaca", "steps": 20}
    written = make_result(
        "study", "r", {"arms": [{"alpha": 0, "seed": 0, "state": "waiting"}]}, provenance([], settings, None)
    )
    read = StudyResult.read(Fields(written, "study.json"))
    assert (read.model, read.data, read.steps) == ("owner/base", "alpaca", 20)


def test_a_loss_that_is_not_finite_stays_a_gap_in_the_curve() -> None:
    arm = ArmResult(0.0, 0, "failed", curves={"train/loss": ((1, 2.0), (2, math.nan))})
    (written,) = StudyResult(arms=[arm], comparisons=[]).metrics()["arms"]
    assert written["curves"] == {"train/loss": [[1, 2.0], [2, None]]}
    (_, last) = ArmResult.read(Fields(written, "arm.json")).curves["train/loss"]
    assert last[0] == 2
    assert math.isnan(last[1])
