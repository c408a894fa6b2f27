"""The result of a study: the records of its arms and their comparisons with the baseline of the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_neft.evaluation.bootstrap import paired_interval, verdict
from lightning_neft.evaluation.result import Fields, InputFile, make_result, provenance, write_result
from lightning_neft.evaluation.study_result import ArmResult, Comparison, StudyResult
from lightning_neft.study.arm import RECORD, read_record
from lightning_neft.study.plan import Plan
from lightning_neft.study.queue import JobState

__all__ = ["HELD_OUT_LOSS", "compare", "paired_differences", "unpaired", "write_study"]


def write_study(
    path: Path,
    plan: Plan,
    recipe: str,
    jobs: Sequence[JobState],
    inputs: Sequence[InputFile],
    settings: dict[str, Any],
) -> StudyResult:
    """Write the current result of a study, and return it.

    An arm that does not pair with the other arms of its seed counts as failed.

    Args:
        path: The file.
        plan: The plan, with the folders of the arms.
        recipe: Name of the recipe.
        jobs: The state of the jobs.
        inputs: The input files of the arms.
        settings: The options that its numbers depend on.
    """
    arms = list(_arms(plan, jobs))
    study = StudyResult(label=recipe, recipe=recipe, arms=arms, comparisons=compare(arms))
    write_result(path, make_result("study", recipe, study.metrics(), provenance(inputs, settings, seed=None)))
    return study


def _arms(plan: Plan, jobs: Sequence[JobState]) -> Iterator[ArmResult]:
    complete: list[ArmResult] = []
    for job in jobs:
        for arm in job.arms:
            folder = plan.folder_of(arm)
            found = ArmResult(arm.alpha, arm.seed, "waiting", folder=folder.relative_to(plan.folder).as_posix())
            if (record := read_record(folder)) is not None:
                of_plan = {"alpha": found.alpha, "seed": found.seed, "folder": found.folder}
                found = ArmResult.read(Fields({**of_plan, **record}, f"{folder / RECORD}"))
            elif job.state == "failed":
                found = replace(found, state="failed", error=job.error)
            if found.state == "complete":
                if (problem := unpaired(found, complete)) is not None:
                    found = replace(found, state="failed", error=problem)
                else:
                    complete.append(found)
            yield found


def unpaired(arm: ArmResult, others: Iterable[ArmResult]) -> str | None:
    """Return why an arm is not paired with another one of its seed; None if it is paired with all of them.

    Args:
        arm: A complete arm.
        others: The other complete arms.
    """
    for other in others:
        if other.seed != arm.seed:
            continue
        for what, name in (("training batches", "data"), ("weights at the start", "weights")):
            mine, theirs = arm.digests.get(name), other.digests.get(name)
            if mine != theirs:
                return (
                    f"not a pair with alpha {other.alpha:g}: its {what} differ "
                    f"(checksums {mine} and {theirs}); did data, versions or devices change in between?"
                )
    return None


def _rouge_l(arm: ArmResult) -> Sequence[float]:
    scores = arm.memorization.child("per_sample") if arm.memorization else None
    return scores.numbers("rouge_l") if scores else ()


# Name of the metric, and its value for each sample of an arm, none where it was not measured.
HELD_OUT_LOSS = "held_out_loss"
"""Name of the metric that arms are judged by."""
_METRICS: dict[str, Callable[[ArmResult], Sequence[float]]] = {
    HELD_OUT_LOSS: lambda arm: arm.held_out_per_sample,
    "train_clean_loss": lambda arm: arm.train_per_sample,
    "mean_characters": lambda arm: [len(answer.output) for answer in arm.answers],
    "mean_rouge_l": _rouge_l,
}
# Whether longer answers, fewer copies, or a low (perhaps memorised) training loss are good is left to the reader.
_LOWER_IS_BETTER = (HELD_OUT_LOSS,)


def compare(arms: Sequence[ArmResult]) -> list[Comparison]:
    """Compare each alpha with the baseline.

    An alpha with a pruned arm is omitted: its remaining seeds are those on which it did well.

    Args:
        arms: All arms of a study.
    """
    found = {metric: paired_differences(arms, metric) for metric in _METRICS}
    alphas = sorted({alpha for of_metric in found.values() for alpha in of_metric})
    return [
        _comparison(alpha, metric, found[metric][alpha])
        for alpha in alphas
        for metric in _METRICS
        if alpha in found[metric]
    ]


def paired_differences(arms: Sequence[ArmResult], metric: str) -> dict[float, npt.NDArray[np.float64]]:
    """Return the differences between each alpha and the baseline.

    Args:
        arms: All arms of a study.
        metric: What is compared.

    Returns:
        By alpha float64 (n_seeds, n_samples), of the seeds with which both are complete. An alpha with a pruned arm, or
        with a single difference, which has no interval, is omitted.
    """
    values_of = _METRICS[metric]
    complete = {(arm.alpha, arm.seed): values_of(arm) for arm in arms if arm.state == "complete"}
    pruned = {arm.alpha for arm in arms if arm.state == "pruned"}
    found = {}
    for alpha in sorted({alpha for alpha, _ in complete} - pruned - {0}):
        seeds = sorted(seed for other, seed in complete if other == alpha and (0, seed) in complete)
        pairs = [(complete[alpha, seed], complete[0, seed]) for seed in seeds]
        rows = [np.subtract(one, other) for one, other in pairs if one and other]
        if sum(map(len, rows)) > 1:
            found[alpha] = np.array(rows, dtype=np.float64)
    return found


def _comparison(alpha: float, metric: str, differences: npt.NDArray[np.float64]) -> Comparison:
    interval = paired_interval(differences)
    sentence = verdict(interval, lower_is_better=True)
    return Comparison(
        alpha=alpha,
        metric=metric,
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        level=interval.level,
        n_seeds=len(differences),
        n_samples=differences.shape[1],
        verdict=sentence if metric in _LOWER_IS_BETTER else sentence.removeprefix("better: ").removeprefix("worse: "),
    )
