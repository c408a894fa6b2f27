"""A study as its result tells it: arms and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_neft.errors import DataError
from lightning_neft.report.fields import Fields
from lightning_neft.report.numbers import alpha_name
from lightning_neft.report.plots.lines import Curve

__all__ = ["Arm", "Comparison", "Study", "read_study"]

_STATES = ("complete", "failed", "pruned", "waiting")


@dataclass(frozen=True)
class Arm:
    """One fit of a study.

    Attributes:
        alpha: Its alpha.
        seed: Its seed.
        state: complete, failed, pruned or waiting.
        error: Why it failed; empty if it did not.
        seconds: How long it took.
        folder: Where its files are.
        held_out_loss: Mean over the held-out samples, noise off.
        train_clean_loss: Mean over the training samples that were measured, noise off.
        held_out_per_sample: Of each held-out sample.
        train_per_sample: Of each training sample that was measured.
        curves: By name, pairs of step and value.
        text_statistics: Of its answers.
        memorization: Of its answers to training prompts.
        answers: Its answers to held-out prompts: instruction, output, reference.
    """

    alpha: float
    seed: int
    state: str
    error: str
    seconds: float | None
    folder: str
    held_out_loss: float | None
    train_clean_loss: float | None
    held_out_per_sample: tuple[float, ...]
    train_per_sample: tuple[float, ...]
    curves: dict[str, Curve]
    text_statistics: Fields | None
    memorization: Fields | None
    answers: Sequence[Fields]

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"{alpha_name(self.alpha)}, seed {self.seed}"


@dataclass(frozen=True)
class Comparison:
    """A paired difference between an alpha and the baseline.

    Attributes:
        alpha: The alpha.
        baseline: That of the baseline.
        metric: What was compared.
        difference: Mean of the differences.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Coverage of the interval.
        n_seeds: Seeds that it is over.
        n_samples: Samples that it is over.
    """

    alpha: float
    baseline: float
    metric: str
    difference: float
    low: float
    high: float
    level: float
    n_seeds: int
    n_samples: int | None


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        label: Its label.
        recipe: Name of its recipe.
        arms: By alpha, then seed; that of the baseline first.
        comparisons: As the study made them.
    """

    label: str
    recipe: str
    arms: Sequence[Arm]
    comparisons: Sequence[Comparison]

    @property
    def alphas(self) -> list[float]:
        """The alphas, that of the baseline first."""
        return list(dict.fromkeys(arm.alpha for arm in self.arms))

    def of_alpha(self, alpha: float, state: str = "complete") -> list[Arm]:
        """Return the arms with an alpha that are in a state."""
        return [arm for arm in self.arms if arm.alpha == alpha and arm.state == state]

    def in_state(self, *states: str) -> list[Arm]:
        """Return the arms in one of these states."""
        return [arm for arm in self.arms if arm.state in states]


def read_study(fields: Fields) -> Study:
    """Make a study of its result.

    Raises:
        DataError: Something has the wrong type, or an arm no alpha.
    """
    arms = sorted((_arm(child) for child in fields.children("arms")), key=lambda arm: (arm.alpha, arm.seed))
    if not arms:
        raise DataError(f"{fields.where}: this study has no arms")
    return Study(
        fields.text("label") or "study",
        fields.text("recipe") or "",
        arms,
        [_comparison(child) for child in fields.children("comparisons")],
    )


def _arm(fields: Fields) -> Arm:
    state = fields.text("state") or ""
    if state not in _STATES:
        raise DataError(f"{fields.where}: state is {state!r}, it can be {', '.join(_STATES)}")
    curves = fields.child("curves")
    return Arm(
        alpha=_needed(fields, "alpha"),
        seed=int(_needed(fields, "seed")),
        state=state,
        error=fields.text("error") or "",
        seconds=fields.number("seconds"),
        folder=fields.text("folder") or "",
        held_out_loss=fields.number("held_out_loss"),
        train_clean_loss=fields.number("train_clean_loss"),
        held_out_per_sample=fields.numbers("held_out_per_sample"),
        train_per_sample=fields.numbers("train_per_sample"),
        curves={name: curves.points(name) for name in curves.names()} if curves else {},
        text_statistics=fields.child("text_statistics"),
        memorization=fields.child("memorization"),
        answers=fields.children("answers"),
    )


def _comparison(fields: Fields) -> Comparison:
    samples = fields.number("n_samples")
    low, high = _needed(fields, "low"), _needed(fields, "high")
    if low > high:
        raise DataError(f"{fields.where}: low is {low:g}, above high, which is {high:g}")
    return Comparison(
        alpha=_needed(fields, "alpha"),
        baseline=fields.number("baseline") or 0.0,
        metric=fields.text("metric") or "",
        difference=_needed(fields, "difference"),
        low=low,
        high=high,
        level=fields.number("level") or 0.95,
        n_seeds=int(_needed(fields, "n_seeds")),
        n_samples=None if samples is None else int(samples),
    )


def _needed(fields: Fields, key: str) -> float:
    found = fields.number(key)
    if found is None:
        raise DataError(f"{fields.where}: {key} is {fields.data.get(key)!r}, it has to be a number")
    return found
