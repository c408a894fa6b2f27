"""Losses without noise, sample by sample: training against held-out."""

from __future__ import annotations

from lightning_neft.report.content import Block, Chart, Section, Table
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.numbers import count, fixed
from lightning_neft.report.plots.histogram import Histogram

__all__ = ["overfitting"]

_LEAD = (
    "Mean loss over a sample's trained tokens, noise off. A model that has learnt its training samples by heart has "
    "low losses on them and higher ones on held-out samples."
)


def overfitting(inputs: Inputs) -> Section | None:
    """Return the section; None without clean losses."""
    results = inputs.of_kind("clean_loss")
    if not results:
        return None
    blocks: list[Block] = [
        Table("Losses without noise", ["model", "split", "loss", "samples"], _rows(results), frozenset({1}))
    ]
    splits = {split: _groups(results, split) for result in results for split in _splits(result)}
    all_values = [value for groups in splits.values() for _, values in groups for value in values]
    for split, groups in splits.items():
        if groups:
            # On the same axis, so that training and held-out samples can be compared.
            plot = Histogram("loss of a sample", groups, (min(all_values), max(all_values)))
            name = _name(split)
            blocks.append(Chart(f"clean-loss-{name}", f"Losses of {name} samples", plot))
    return Section("overfitting", "Overfitting", _LEAD, blocks)


def _splits(result: Result) -> list[str]:
    splits = result.fields.child("splits")
    return splits.names() if splits else []


def _name(split: str) -> str:
    return "training" if split == "train" else split.replace("_", "-")


def _groups(results: list[Result], split: str) -> list[tuple[str, tuple[float, ...]]]:
    return [(result.label, values) for result in results if (values := _losses(result, split))]


def _losses(result: Result, split: str) -> tuple[float, ...]:
    splits = result.fields.child("splits")
    fields = splits.child(split) if splits else None
    return fields.numbers("per_sample") if fields else ()


def _rows(results: list[Result]) -> list[list[str]]:
    rows = []
    for result in results:
        splits = result.fields.child("splits")
        for split in _splits(result):
            fields = splits.child(split) if splits else None
            if fields:
                loss, samples = fields.number("mean_loss"), fields.number("n_samples")
                rows.append([result.label, _name(split), fixed(loss), count(samples)])
    return rows
