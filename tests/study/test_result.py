"""Comparisons of arms with the baseline of their seed, on numbers made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightning_neft.evaluation.records import Output
from lightning_neft.evaluation.result import Fields
from lightning_neft.evaluation.study_result import ArmResult
from lightning_neft.study.result import compare, unpaired


def arm(alpha: float, seed: int, held_out: list[float], **more: Any) -> ArmResult:
    return ArmResult(alpha, seed, "complete", held_out_per_sample=held_out, **more)


def test_differences_are_paired_by_seed_and_sample() -> None:
    # Unpaired, the seeds' own levels (1 and 5) would drown the difference of 0.1.
    arms = [
        arm(0.0, 0, [1.0, 2.0, 3.0]),
        arm(5.0, 0, [0.9, 1.899, 2.901]),
        arm(0.0, 1, [5.0, 6.0, 7.0]),
        arm(5.0, 1, [4.9, 5.899, 6.901]),
        arm(0.0, 2, [3.0, 2.0, 1.0]),
        arm(5.0, 2, [2.9, 1.899, 0.901]),
    ]
    (found,) = compare(arms)
    assert (found.alpha, found.baseline, found.metric) == (5.0, 0, "held_out_loss")
    assert (found.n_seeds, found.n_samples, found.level) == (3, 3, 0.95)
    for value in (found.difference, found.low, found.high):
        assert value == pytest.approx(-0.1, abs=0.01)
    assert found.verdict.startswith("better: lower by 0.1")


def test_an_interval_that_includes_zero_is_no_evidence() -> None:
    (found,) = compare(
        [arm(0.0, seed, [1.0, 1.0, 1.0, 1.0]) for seed in range(3)]
        + [arm(5.0, seed, [0.8, 1.3, 0.9, 1.1]) for seed in range(3)]
    )
    assert found.low < 0 < found.high
    assert found.difference == pytest.approx(0.025)
    assert found.verdict.startswith("no evidence of a difference")


@pytest.mark.parametrize(("seeds", "count"), [(1, "1 seed"), (2, "2 seeds")])
def test_a_clear_interval_of_few_seeds_gives_no_verdict(seeds: int, count: str) -> None:
    arms = [arm(0.0, seed, [1.0, 2.0, 3.0]) for seed in range(seeds)]
    arms += [arm(5.0, seed, [0.5, 1.5001, 2.4999], answers=[]) for seed in range(seeds)]
    (found,) = compare(arms)
    assert found.high < 0
    assert found.verdict == f"no verdict from {count}, use 3 or more (-0.5, 95 % interval -0.5 to -0.5)"


def test_lengths_and_copies_are_neither_better_nor_worse() -> None:
    def texts(length: int) -> list[Output]:
        return [Output("", "x" * int(length + extra)) for extra in (0, length / 10)]

    copies = Fields({"per_sample": {"rouge_l": [0.9, 1.0]}}, "")
    fewer = Fields({"per_sample": {"rouge_l": [0.4, 0.51]}}, "")
    arms = [
        one
        for seed in range(3)
        for one in (
            arm(0.0, seed, [1.0, 2.0], answers=texts(10), memorization=copies, train_per_sample=[0.5, 0.5]),
            arm(5.0, seed, [1.0, 2.0], answers=texts(30), memorization=fewer, train_per_sample=[0.7, 0.71]),
        )
    ]
    found = {one.metric: one for one in compare(arms)}
    assert found["mean_characters"].difference == 21
    assert found["mean_characters"].verdict.startswith("higher by 21")
    assert found["mean_rouge_l"].difference == pytest.approx(-0.495)
    assert found["mean_rouge_l"].verdict.startswith("lower by 0.495")
    assert found["train_clean_loss"].verdict.startswith("higher by 0.205")


def test_seeds_without_a_pair_are_omitted() -> None:
    arms = [
        arm(0.0, 0, [1.0, 2.0]),
        arm(5.0, 0, [2.0, 3.0]),
        arm(5.0, 1, [100.0, 100.0]),
        replace(arm(0.0, 1, []), state="failed"),
    ]
    (found,) = compare(arms)
    assert (found.n_seeds, found.difference) == (1, 1.0)


def test_an_alpha_with_a_pruned_arm_is_not_compared() -> None:
    # Otherwise the seeds on which it did well would speak for it.
    arms = [
        arm(0.0, 0, [1.0, 2.0]),
        arm(0.0, 1, [1.0, 2.0]),
        arm(5.0, 0, [0.5, 1.5]),
        replace(arm(5.0, 1, [9.0, 9.0]), state="pruned"),
    ]
    assert compare(arms) == []


def test_a_single_difference_has_no_interval() -> None:
    assert compare([arm(0.0, 0, [1.0]), arm(5.0, 0, [2.0])]) == []


@pytest.mark.parametrize("name", ["data", "weights"])
def test_an_arm_with_other_batches_or_weights_is_named(name: str) -> None:
    same = {"data": "aa", "weights": "bb"}
    others = [
        ArmResult(0.0, 0, "complete", digests=same),
        ArmResult(0.0, 1, "complete", digests={"data": "cc", "weights": "dd"}),
    ]
    assert unpaired(ArmResult(5.0, 0, "complete", digests=same), others) is None
    problem = unpaired(ArmResult(5.0, 0, "complete", digests={**same, name: "ee"}), others)
    assert problem is not None
    assert problem.startswith("not a pair with alpha 0: its ")
    assert f"(checksums) are ee, not {same[name]}" in problem


def test_other_steps_are_named_before_the_batches() -> None:
    other = ArmResult(0.0, 0, "complete", steps=9, digests={"data": "aa"})
    problem = unpaired(ArmResult(5.0, 0, "complete", steps=8, digests={"data": "bb"}), [other])
    assert problem is not None
    assert problem.startswith("not a pair with alpha 0: its optimizer steps are 8, not 9;")
