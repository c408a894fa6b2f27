"""How strong the noise was beside the embeddings."""

from __future__ import annotations

from lightning_neft.report.content import Section
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.sections.curves import curve_charts

__all__ = ["noise"]

_LEAD = (
    "Root mean square of the noise over that of the embeddings it was added to. The same alpha is weak noise on one "
    "model and strong noise on another: this ratio tells which."
)
_CURVES = (("neft/noise_to_signal", "noise to signal", "Noise to signal"),)


def noise(inputs: Inputs) -> Section | None:
    """Return the section; None where no arm logged it."""
    charts = curve_charts(inputs, _CURVES)
    return Section("noise", "Noise to signal", _LEAD, charts) if charts else None
