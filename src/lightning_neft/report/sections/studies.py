"""Studies compared with each other: equal alphas and seeds, on the same held-out samples, with other options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lightning_neft.evaluation.bootstrap import paired_interval
from lightning_neft.evaluation.pairs import HELD_OUT_LOSS, paired_differences
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import Finding, Findings, alpha_name, seeds_name
from lightning_neft.report.sections.scores import finding, metric_name

__all__ = ["between_studies"]


def between_studies(first: StudyResult, other: StudyResult) -> Findings | None:
    """Return the verdicts on a study against another one, alpha by alpha; None if they are not paired.

    They are paired if both name the same model, data, digest of the data and steps: what differs are other options,
    such as those of the noise.
    """
    if not first.data_digest or any(
        getattr(first, name) != getattr(other, name) for name in ("model", "data", "data_digest", "steps")
    ):
        return None
    found = list(_findings(first, other))
    return Findings(f"{metric_name(HELD_OUT_LOSS).capitalize()}: {other.label} against {first.label}", found)


def _findings(first: StudyResult, other: StudyResult) -> Iterator[Finding]:
    for alpha in (alpha for alpha in other.alphas if alpha > 0 and alpha in first.alphas):
        # The arm of the first study takes the place of the baseline.
        arms = [replace(arm, alpha=0.0) for arm in first.arms if arm.alpha == alpha]
        arms += [arm for arm in other.arms if arm.alpha == alpha]
        for differences in paired_differences(arms, HELD_OUT_LOSS).values():
            subject = f"{alpha_name(alpha)}, {seeds_name(len(differences))}"
            yield finding(subject, HELD_OUT_LOSS, paired_interval(differences))
