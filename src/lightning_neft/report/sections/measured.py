"""Measurements of answers by name: those of results, and those of a study's arms by alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lightning_neft.evaluation.fields import Fields
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import alpha_name

__all__ = ["Measured", "measured"]


@dataclass(frozen=True)
class Measured:
    """What was measured on one model, or on all arms with one alpha.

    Attributes:
        label: Its name.
        each: The measurements of each arm; a single one for a result.
    """

    label: str
    each: Sequence[Fields]

    def values(self, key: str) -> list[float]:
        """Return a number of each arm that has it."""
        return [value for fields in self.each if (value := fields.number(key)) is not None]

    def mean(self, key: str) -> float | None:
        """Return the mean of a number over the arms."""
        values = self.values(key)
        return sum(values) / len(values) if values else None

    def per_sample(self, key: str) -> list[float]:
        """Return what was measured on each sample, of all arms together."""
        found = (fields.child("per_sample") for fields in self.each)
        return [value for fields in found if fields for value in fields.numbers(key)]


def measured(inputs: Inputs, kind: Literal["text_statistics", "memorization"]) -> list[Measured]:
    """Return what there is of a kind: by alpha for studies, then the results."""
    found = []
    for study in inputs.studies:
        of = f"{study.label}, " if len(inputs.studies) > 1 else ""
        for alpha in study.alphas:
            arms = study.of_alpha(alpha)
            each = [
                fields
                for arm in arms
                if (fields := arm.text_statistics if kind == "text_statistics" else arm.memorization)
            ]
            if each:
                found.append(Measured(f"{of}{alpha_name(alpha)}", each))
    return [*found, *(Measured(result.label, [result.fields]) for result in inputs.of_kind(kind))]
