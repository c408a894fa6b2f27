"""The sections on losses: curves over the training, noise to signal, and training against held-out samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_neft.evaluation.result import Curve, Fields
from lightning_neft.evaluation.study_result import ArmState, StudyResult
from lightning_neft.report.content import Block, Chart, PageSection, Table, alpha_name, count, fixed
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.lines import LONGEST, CurveGroup, Lines
from lightning_neft.report.values import Histogram

__all__ = ["losses", "noise", "overfitting"]

_LOSSES_LEAD = (
    "Each point is a mean over the trained tokens of a batch or of the validation set; the losses in the table of arms "
    "are means over samples. Thick lines: mean over the seeds; thin lines: each seed. Dotted lines with a cross: arms "
    "that failed or were pruned, not part of a mean. The training loss of arms with noise includes that noise, which "
    "alone raises it; the clean loss is measured on the same batches without it."
)
# Name in the result, name of the value, and title.
_LOSSES = (
    ("train/loss", "training loss, mean over tokens", "Training loss, with noise"),
    ("train/clean_loss", "clean loss, mean over tokens", "Training loss, noise off"),
    ("val/loss", "val/loss, mean over tokens", "Validation loss during training"),
)
_NOISE_LEAD = (
    "Root mean square of the noise divided by that of the embeddings it was added to. The same alpha is weak noise on "
    "one model and strong noise on another; this ratio shows which."
)
_NOISE = (("neft/noise_to_signal", "noise to signal", "Noise to signal"),)
_SMOOTHED = "Each point of a long curve is the mean of neighbouring steps."


def losses(inputs: Inputs) -> PageSection | None:
    """Return the section; None without curves."""
    charts = _charts(inputs, _LOSSES)
    return PageSection("losses", "Losses over training", _LOSSES_LEAD, charts) if charts else None


def noise(inputs: Inputs) -> PageSection | None:
    """Return the section; None if no arm logged it."""
    charts = _charts(inputs, _NOISE)
    return PageSection("noise", "Noise to signal", _NOISE_LEAD, charts) if charts else None


def _charts(inputs: Inputs, curves: Sequence[tuple[str, str, str]]) -> list[Block]:
    """Return a chart for each study and curve that has points."""
    charts: list[Block] = []
    for study in inputs.studies:
        for key, what, title in curves:
            groups = [
                CurveGroup(
                    alpha_name(alpha),
                    _curves(study, alpha, key, "complete"),
                    [*_curves(study, alpha, key, "failed"), *_curves(study, alpha, key, "pruned")],
                )
                for alpha in study.alphas
            ]
            if any(group.curves or group.stopped for group in groups):
                is_long = any(len(arm.curves.get(key, ())) > LONGEST for arm in study.arms)
                slug = key.replace("/", "-").replace("_", "-")
                title = f"{inputs.prefix(study, ': ')}{title}"
                charts.append(Chart(slug, title, Lines(what, groups), _SMOOTHED if is_long else ""))
    return charts


def _curves(study: StudyResult, alpha: float, key: str, state: ArmState) -> list[Curve]:
    # A single point is no curve.
    return [curve for arm in study.of_alpha(alpha, state) if len(curve := arm.curves.get(key, ())) > 1]


_OVERFITTING_LEAD = (
    "Mean loss over the trained tokens of a sample, noise off. A model that has memorised its training samples has low "
    "losses on them and higher ones on held-out samples. Samples of all seeds of a study are pooled."
)
_Group = tuple[str, Sequence[float]]


def overfitting(inputs: Inputs) -> PageSection | None:
    """Return the section; None without losses of samples."""
    blocks: list[Block] = []
    rows = [
        [result.label, _name(split), fixed(fields.number("mean_loss")), count(fields.number("n_samples"))]
        for result in inputs.of_kind("clean_loss")
        for split, fields in _splits(result)
    ]
    if inputs.of_kind("clean_loss"):
        columns = ["model", "split", "loss, mean over tokens", "samples"]
        blocks.append(Table("Losses without noise", columns, rows, frozenset({1})))
    splits: dict[str, list[_Group]] = {}
    for split, group in _groups(inputs):
        splits.setdefault(split, []).append(group)
    pooled = [value for groups in splits.values() for _, values in groups for value in values]
    for split, groups in splits.items():
        # A common axis makes training and held-out samples comparable.
        plot = Histogram("loss of a sample", groups, (min(pooled), max(pooled)))
        blocks.append(Chart(f"clean-loss-{_name(split)}", f"Losses of {_name(split)} samples", plot))
    return PageSection("overfitting", "Overfitting", _OVERFITTING_LEAD, blocks) if blocks else None


def _groups(inputs: Inputs) -> Iterator[tuple[str, _Group]]:
    """Yield a split, and a label with the losses of its samples: by alpha for studies, then the results."""
    for study in inputs.studies:
        for split in ("train", "held_out"):
            for alpha in study.alphas:
                arms = study.of_alpha(alpha)
                each = [arm.train_per_sample if split == "train" else arm.held_out_per_sample for arm in arms]
                if values := [value for losses in each for value in losses]:
                    yield split, (f"{inputs.prefix(study, ', ')}{alpha_name(alpha)}", values)
    for result in inputs.of_kind("clean_loss"):
        for split, fields in _splits(result):
            if found := fields.numbers("per_sample"):
                yield split, (result.label, found)


def _splits(result: Result) -> list[tuple[str, Fields]]:
    splits = result.fields.child("splits")
    return [(name, fields) for name in splits.names() if (fields := splits.child(name))] if splits else []


def _name(split: str) -> str:
    return "training" if split == "train" else split.replace("_", "-")
