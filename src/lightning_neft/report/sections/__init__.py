"""The sections of the page, one file a subject: each returns None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lightning_neft.report.content import PageSection
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.sections.answers import answers
from lightning_neft.report.sections.arms import arm_table, losses, noise
from lightning_neft.report.sections.capability import capability
from lightning_neft.report.sections.overfitting import memorization, overfitting
from lightning_neft.report.sections.provenance import provenance
from lightning_neft.report.sections.summary import summary
from lightning_neft.report.sections.texts import texts
from lightning_neft.report.sections.win_rates import win_rates

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
