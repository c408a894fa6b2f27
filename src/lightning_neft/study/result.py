"""The result of a study: the records of its arms and their comparisons with the baseline of the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_neft.evaluation.bootstrap import paired_interval, verdict
from lightning_neft.evaluation.pairs import LOWER_IS_BETTER, METRICS, paired_differences
from lightning_neft.evaluation.result import Fields, InputFile, make_result, provenance, write_result
from lightning_neft.evaluation.study_result import ArmResult, Comparison, StudyResult
from lightning_neft.study.arm import RECORD, read_record
from lightning_neft.study.plan import Plan
from lightning_neft.study.queue import JobState

__all__ = ["compare", "unpaired", "write_study"]


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
        compared = (
            ("optimizer steps", arm.steps, other.steps),
            ("training batches (checksums)", arm.digests.get("data"), other.digests.get("data")),
            ("weights at the start (checksums)", arm.digests.get("weights"), other.digests.get("weights")),
        )
        for what, mine, theirs in compared:
            if mine != theirs:
                return (
                    f"not a pair with alpha {other.alpha:g}: its {what} are {mine}, not {theirs}; did data, versions "
                    "or devices change in between? Run all arms in another --out"
                )
    return None


def compare(arms: Sequence[ArmResult]) -> list[Comparison]:
    """Compare each alpha with the baseline.

    An alpha with a pruned arm is omitted: its remaining seeds are those on which it did well.

    Args:
        arms: All arms of a study.
    """
    found = {metric: paired_differences(arms, metric) for metric in METRICS}
    alphas = sorted({alpha for of_metric in found.values() for alpha in of_metric})
    return [
        _comparison(alpha, metric, found[metric][alpha])
        for alpha in alphas
        for metric in METRICS
        if alpha in found[metric]
    ]


def _comparison(alpha: float, metric: str, differences: npt.NDArray[np.float64]) -> Comparison:
    interval = paired_interval(differences)
    return Comparison(
        alpha=alpha,
        metric=metric,
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        level=interval.level,
        n_seeds=len(differences),
        n_samples=differences.shape[1],
        verdict=verdict(interval, lower_is_better=metric in LOWER_IS_BETTER),
    )
