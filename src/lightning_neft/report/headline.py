"""The answer of a study in one sentence: whether noise changed the held-out loss, by how much, and measured on what."""

from __future__ import annotations

import math
from pathlib import PurePath
from statistics import fmean

from lightning_neft.common.secrets import mask_text
from lightning_neft.errors import DataError
from lightning_neft.evaluation.bootstrap import MIN_SEEDS
from lightning_neft.evaluation.choice import Choice
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import alpha_name, count, seeds_name
from lightning_neft.report.inputs import Inputs

__all__ = ["headlines"]


def headlines(inputs: Inputs) -> list[str]:
    """Return a sentence for each study."""
    return [
        f"{inputs.prefix(study, ': ')}{_sentence(study, choice)}."
        for study, choice in zip(inputs.studies, inputs.choices, strict=True)
    ]


def _sentence(study: StudyResult, choice: Choice) -> str:
    facts = _facts(study)
    if not choice.intervals:
        return f"Not shown: {', '.join(['no alpha was compared with alpha 0', *facts])}"
    seeds = seeds_name(*(interval.n_seeds or 0 for interval in choice.intervals.values()))
    if all(interval.has_few_seeds for interval in choice.intervals.values()):
        return f"Not shown: {', '.join([f'{seeds} (a verdict needs {MIN_SEEDS})', *facts])}"
    changes = _changes(study, choice)
    if choice.compared > 1:
        facts.append(f"intervals corrected for {choice.compared} alphas")
    return f"{changes[0].upper()}{changes[1:]}; {', '.join([seeds, *facts])}"


def _changes(study: StudyResult, choice: Choice) -> str:
    scales = {alpha: 100 / _baseline(study, alpha) for alpha in choice.intervals}

    def by(alpha: float) -> str:
        found, scale = choice.intervals[alpha], scales[alpha]
        ends = sorted((abs(scale * found.low), abs(scale * found.high)))
        mean, low, high = _rounded(abs(scale * found.mean), *ends)
        return f"{mean} % ({100 * choice.level:g} %: {low} to {high})"

    raised = [alpha for alpha, found in choice.intervals.items() if found.is_evidence and found.mean > 0]
    parts = []
    if choice.alpha:
        parts.append(f"{alpha_name(choice.alpha)} lowers held-out loss by {by(choice.alpha)}")
    elif raised and choice.compared > 1:
        parts.append("no alpha lowers held-out loss measurably")
    elif not raised:
        shown = {alpha: found for alpha, found in choice.intervals.items() if not found.has_few_seeds}
        alphas = [f"{alpha:g}" for alpha in shown]
        which = f"no alpha ({', '.join(alphas)}) changes" if len(alphas) > 1 else f"alpha {alphas[0]} does not change"
        low, high = _rounded(
            min(scales[alpha] * found.low for alpha, found in shown.items()),
            max(scales[alpha] * found.high for alpha, found in shown.items()),
        )
        return f"{which} held-out loss measurably: {low} % to {high} % ({100 * choice.level:g} % interval)"
    what = "it" if parts else "held-out loss"
    return "; ".join([*parts, *(f"{alpha_name(alpha)} raises {what} by {by(alpha)}" for alpha in raised)])


def _baseline(study: StudyResult, alpha: float) -> float:
    """Return the mean held-out loss of the baseline, over the seeds that it has in common with an alpha.

    Raises:
        DataError: It is not above 0, so that no difference is a percentage of it.
    """
    seeds = {arm.seed for arm in study.of_alpha(alpha) if arm.held_out_per_sample}
    arms = [arm for arm in study.of_alpha(0) if arm.seed in seeds and arm.held_out_per_sample]
    mean = fmean(fmean(arm.held_out_per_sample) for arm in arms)
    if mean <= 0:
        raise DataError(f"the held-out loss of alpha 0 is {mean:g}, where a number above 0 is expected")
    return mean


def _rounded(*percent: float) -> list[str]:
    """Return numbers with the decimals of the first one that is not 0, one or more."""
    first = next((abs(value) for value in percent if value), 1.0)
    return [f"{value:.{max(1, 1 - math.floor(math.log10(first)))}f}" for value in percent]


def _facts(study: StudyResult) -> list[str]:
    """Return the model, the data, and the numbers of steps and samples, without those that the file does not state."""
    named = [part for part in (PurePath(study.model).name, study.data) if part]
    samples = next((len(arm.held_out_per_sample) for arm in study.of_alpha(0)), 0)
    facts = [
        mask_text(" on ".join(named)),
        f"{count(study.steps)} step{'s' * (study.steps > 1)}" if study.steps else "",
        f"{count(samples)} held-out sample{'s' * (samples > 1)}" if samples else "",
    ]
    return [fact for fact in facts if fact]
