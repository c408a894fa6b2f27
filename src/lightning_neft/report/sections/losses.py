"""Losses over training: with noise, without it on the same batches, and held-out."""

from __future__ import annotations

from lightning_neft.report.content import Section
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.sections.curves import curve_charts

__all__ = ["losses"]

_LEAD = (
    "Thick: the mean over the seeds; thin: each seed. Dotted with a cross: an arm that failed or was stopped, not part "
    "of a mean. The training loss of arms with noise is measured under that noise, so it is higher for that reason "
    "alone; the clean one is of the same batches without it."
)
_CURVES = (
    ("train/loss", "training loss", "Training loss, with noise"),
    ("train/clean_loss", "clean training loss", "Training loss, noise off"),
    ("val/loss", "val/loss, mean over tokens", "Validation loss during training"),
)


def losses(inputs: Inputs) -> Section | None:
    """Return the section; None without curves."""
    charts = curve_charts(inputs, _CURVES)
    return Section("losses", "Losses over training", _LEAD, charts) if charts else None
