"""The sections on a study's arms: table, losses, noise to signal."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.common.secrets import mask_text
from lightning_neft.evaluation.fields import Curve, Fields
from lightning_neft.evaluation.study_result import ArmResult, ArmState, StudyResult
from lightning_neft.report.content import Block, Chart, Heading, PageSection, Table
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import MISSING, alpha_name, count, fixed, share
from lightning_neft.report.plots.lines import LONGEST, CurveGroup, Lines

__all__ = ["arm_table", "curve_charts", "losses", "noise"]


_LEAD = (
    "Arms with the same seed differ only in the noise: same data order, initialisation and dropout. Losses are "
    "measured without noise and averaged over samples, each with the same weight, as in the differences. The gap is "
    "held-out loss minus training loss."
)

_COLUMNS = ("arm", "state", "held-out loss", "training loss", "gap", "words", "repeated 2-grams", "ROUGE-L", "seconds")


def arm_table(inputs: Inputs) -> PageSection | None:
    """Return the section; None without a study."""
    if not inputs.studies:
        return None
    section = PageSection("arms", "Arms", _LEAD)
    for study in inputs.studies:
        if len(inputs.studies) > 1:
            section.blocks.append(Heading(study.label))
        recipe = f" of {study.recipe}" if study.recipe else ""
        section.blocks.append(_measured(f"Arms{recipe}", [_row(arm) for arm in study.arms]))
        if stopped := study.in_state("failed", "pruned", "waiting"):
            section.blocks.append(_unfinished(stopped))
    return section


def _measured(caption: str, rows: list[list[str]]) -> Table:
    """A table without the columns that have no values."""
    kept = [index for index in range(len(_COLUMNS)) if any(row[index] != MISSING for row in rows)]
    return Table(
        caption, [_COLUMNS[index] for index in kept], [[row[index] for index in kept] for row in rows], frozenset({1})
    )


def _unfinished(arms: list[ArmResult]) -> Table:
    rows = [[arm.name, arm.state, mask_text(arm.error or "") or MISSING, arm.folder or MISSING] for arm in arms]
    return Table("Arms that did not finish", ["arm", "state", "why", "folder"], rows, frozenset({1, 2, 3}))


def _row(arm: ArmResult) -> list[str]:
    gap = None
    if arm.held_out_loss is not None and arm.train_clean_loss is not None:
        gap = arm.held_out_loss - arm.train_clean_loss
    return [
        arm.name,
        arm.state,
        *(fixed(value) for value in (arm.held_out_loss, arm.train_clean_loss, gap)),
        fixed(_of(arm.text_statistics, "mean_words"), decimals=1),
        share(_of(arm.text_statistics, "repetition_2")),
        fixed(_of(arm.memorization, "mean_rouge_l")),
        count(arm.seconds),
    ]


def _of(fields: Fields | None, key: str) -> float | None:
    return None if fields is None else fields.number(key)


_SMOOTHED = "Each point of a long curve is the mean of neighbouring steps."


def curve_charts(inputs: Inputs, curves: Sequence[tuple[str, str, str]]) -> list[Block]:
    """Return a chart for each study and curve that has points.

    Args:
        inputs: With the studies.
        curves: Name in the result, name of the value, and title of each.
    """
    charts: list[Block] = []
    for study in inputs.studies:
        of = f"{study.label}: " if len(inputs.studies) > 1 else ""
        for key, what, title in curves:
            groups = _groups(study, key)
            if any(group.curves or group.stopped for group in groups):
                is_long = any(len(arm.curves.get(key, ())) > LONGEST for arm in study.arms)
                note = _SMOOTHED if is_long else ""
                charts.append(Chart(key.replace("/", "-").replace("_", "-"), f"{of}{title}", Lines(what, groups), note))
    return charts


def _groups(study: StudyResult, key: str) -> list[CurveGroup]:
    return [
        CurveGroup(
            alpha_name(alpha),
            _curves(study, alpha, key, "complete"),
            [*_curves(study, alpha, key, "failed"), *_curves(study, alpha, key, "pruned")],
        )
        for alpha in study.alphas
    ]


def _curves(study: StudyResult, alpha: float, key: str, state: ArmState) -> list[Curve]:
    return [curve for arm in study.of_alpha(alpha, state) if (curve := arm.curves.get(key))]


_LOSSES_LEAD = (
    "Thick lines: mean over the seeds; thin lines: each seed. Dotted lines with a cross: arms that failed or were "
    "stopped, not part of a mean. The training loss of arms with noise includes that noise, which alone raises it; the "
    "clean loss is measured on the same batches without it."
)

_CURVES = (
    ("train/loss", "training loss", "Training loss, with noise"),
    ("train/clean_loss", "clean training loss", "Training loss, noise off"),
    ("val/loss", "val/loss, mean over tokens", "Validation loss during training"),
)


def losses(inputs: Inputs) -> PageSection | None:
    """Return the section; None without curves."""
    charts = curve_charts(inputs, _CURVES)
    return PageSection("losses", "Losses over training", _LOSSES_LEAD, charts) if charts else None


_NOISE_LEAD = (
    "Root mean square of the noise divided by that of the embeddings it was added to. The same alpha is weak noise on "
    "one model and strong noise on another; this ratio shows which."
)

_NOISE_CURVES = (("neft/noise_to_signal", "noise to signal", "Noise to signal"),)


def noise(inputs: Inputs) -> PageSection | None:
    """Return the section; None where no arm logged it."""
    charts = curve_charts(inputs, _NOISE_CURVES)
    return PageSection("noise", "Noise to signal", _NOISE_LEAD, charts) if charts else None
