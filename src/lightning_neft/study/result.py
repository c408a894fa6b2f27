"""The result of a study: what its arms left behind, and their comparisons, as one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_neft.evaluation.fields import Fields
from lightning_neft.evaluation.result import InputFile, make_result, provenance, write_result
from lightning_neft.evaluation.study_result import ArmResult, StudyResult
from lightning_neft.study.arm import RECORD, read_record
from lightning_neft.study.compare import compare
from lightning_neft.study.pairing import unpaired
from lightning_neft.study.plan import Plan
from lightning_neft.study.queue import JobState

__all__ = ["study_result", "write_study"]


def write_study(
    path: Path,
    plan: Plan,
    recipe: str,
    jobs: Sequence[JobState],
    inputs: Sequence[InputFile],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Write the result of a study as it stands now, and return it.

    Args:
        path: The file.
        plan: The plan, which says where the arms are.
        recipe: Name of the recipe.
        jobs: What the storage says.
        inputs: The files that the arms come from.
        settings: The options that its numbers depend on.
    """
    result = study_result(plan, recipe, jobs, inputs, settings)
    write_result(path, result)
    return result


def study_result(
    plan: Plan, recipe: str, jobs: Sequence[JobState], inputs: Sequence[InputFile], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the result of a study as it stands now; see `write_study`.

    An arm that is no pair with the baseline of its seed counts as failed.
    """
    arms = list(_arms(plan, jobs))
    study = StudyResult(recipe, recipe, arms, compare(arms))
    return make_result("study", recipe, study.metrics(), provenance(inputs, settings, seed=None))


def _arms(plan: Plan, jobs: Sequence[JobState]) -> Iterator[ArmResult]:
    complete: list[ArmResult] = []
    for job in jobs:
        for arm in job.arms:
            folder = plan.folder_of(arm)
            facts: dict[str, Any] = {
                "alpha": arm.alpha,
                "seed": arm.seed,
                "folder": folder.relative_to(plan.folder).as_posix(),
            }
            if (record := read_record(folder)) is not None:
                found = ArmResult.read(Fields({**facts, **record}, f"{folder / RECORD}"))
            elif job.state == "failed":
                found = ArmResult(**facts, state="failed", error=job.error)
            else:
                found = ArmResult(**facts, state="waiting")
            if found.state == "complete":
                if (problem := unpaired(found, complete)) is not None:
                    found = replace(found, state="failed", error=problem)
                else:
                    complete.append(found)
            yield found
