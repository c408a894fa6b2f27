"""Losses without noise, sample by sample: training against held-out."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_neft.evaluation.fields import Fields
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import Block, Chart, Section, Table
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.numbers import alpha_name, count, fixed
from lightning_neft.report.plots.histogram import Histogram

__all__ = ["overfitting"]

_LEAD = (
    "Mean loss over a sample's trained tokens, noise off. A model that has learnt its training samples by heart has "
    "low losses on them and higher ones on held-out samples. Samples of all seeds of a study are taken together."
)
_Group = tuple[str, tuple[float, ...]]


def overfitting(inputs: Inputs) -> Section | None:
    """Return the section; None without losses of samples."""
    results = inputs.of_kind("clean_loss")
    blocks: list[Block] = []
    if results:
        rows = [row for result in results for row in _rows(result)]
        columns = ["model", "split", "loss, mean over tokens", "samples"]
        blocks.append(Table("Losses without noise", columns, rows, frozenset({1})))
    splits: dict[str, list[_Group]] = {}
    for split, group in _all_groups(inputs):
        splits.setdefault(split, []).append(group)
    all_values = [value for groups in splits.values() for _, values in groups for value in values]
    for split, groups in splits.items():
        # On the same axis, so that training and held-out samples can be compared.
        plot = Histogram("loss of a sample", groups, (min(all_values), max(all_values)))
        name = _name(split)
        blocks.append(Chart(f"clean-loss-{name}", f"Losses of {name} samples", plot))
    return Section("overfitting", "Overfitting", _LEAD, blocks) if blocks else None


def _all_groups(inputs: Inputs) -> Iterator[tuple[str, _Group]]:
    """Split, and a label with the losses of its samples: by alpha for studies, then the results."""
    for study in inputs.studies:
        of = f"{study.label}, " if len(inputs.studies) > 1 else ""
        for split in ("train", "held_out"):
            for alpha in study.alphas:
                if values := _of_alpha(study, alpha, split):
                    yield split, (f"{of}{alpha_name(alpha)}", values)
    for result in inputs.of_kind("clean_loss"):
        for split, fields in _splits(result):
            if values := fields.numbers("per_sample"):
                yield split, (result.label, values)


def _of_alpha(study: StudyResult, alpha: float, split: str) -> tuple[float, ...]:
    arms = study.of_alpha(alpha)
    lists = [arm.train_per_sample if split == "train" else arm.held_out_per_sample for arm in arms]
    return tuple(value for values in lists for value in values)


def _splits(result: Result) -> list[tuple[str, Fields]]:
    splits = result.fields.child("splits")
    return [(name, fields) for name in splits.names() if (fields := splits.child(name))] if splits else []


def _name(split: str) -> str:
    return "training" if split == "train" else split.replace("_", "-")


def _rows(result: Result) -> list[list[str]]:
    return [
        [result.label, _name(split), fixed(fields.number("mean_loss")), count(fields.number("n_samples"))]
        for split, fields in _splits(result)
    ]
