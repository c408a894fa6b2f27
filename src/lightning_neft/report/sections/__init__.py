"""The sections of the page, one file per subject; each function returns None if there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lightning_neft.report.content import PageSection
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.sections.answers import answers
from lightning_neft.report.sections.losses import losses, noise, overfitting
from lightning_neft.report.sections.provenance import provenance
from lightning_neft.report.sections.scores import capability, win_rates
from lightning_neft.report.sections.study import arm_table, summary
from lightning_neft.report.sections.texts import memorization, texts

__all__ = ["make_sections"]

_SECTIONS: Sequence[Callable[[Inputs], PageSection | None]] = (
    summary,
    arm_table,
    losses,
    overfitting,
    noise,
    texts,
    memorization,
    win_rates,
    capability,
    answers,
    provenance,
)


def make_sections(inputs: Inputs) -> list[PageSection]:
    """Return the sections that there are data for."""
    return [section for make in _SECTIONS if (section := make(inputs)) is not None]
