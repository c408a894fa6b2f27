"""The result of a study: its arms and their comparisons, as `study` writes them and `report` reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from lightning_neft.errors import DataError
from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.evaluation.fields import Curve, Fields
from lightning_neft.evaluation.records import Output

__all__ = ["ArmResult", "ArmState", "Comparison", "StudyResult"]

ArmState = Literal["complete", "failed", "pruned", "waiting"]


@dataclass(frozen=True)
class ArmResult:
    """What a study knows about one of its arms.

    Attributes:
        alpha: Its alpha.
        seed: Its seed.
        state: How far it is.
        error: Why it failed; None if it did not.
        seconds: How long it took.
        folder: Where its files are, relative to the folder of the study.
        held_out_loss: Mean over the held-out samples, noise off.
        train_clean_loss: Mean over the measured training samples, noise off.
        held_out_per_sample: Loss of each held-out sample.
        train_per_sample: Loss of each measured training sample.
        curves: Pairs of step and value by the name of the logged value.
        text_statistics: Statistics of its answers; None if there are none.
        memorization: Scores of its answers to training prompts; None if there are none.
        answers: Its answers to held-out prompts.
        steps: Optimizer steps that it was trained for.
        digests: Checksums of its training batches and of its weights before the first step.
    """

    alpha: float
    seed: int
    state: ArmState
    error: str | None = None
    seconds: float | None = None
    folder: str = ""
    held_out_loss: float | None = None
    train_clean_loss: float | None = None
    held_out_per_sample: Sequence[float] = ()
    train_per_sample: Sequence[float] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    text_statistics: Fields | None = None
    memorization: Fields | None = None
    answers: Sequence[Output] = ()
    steps: int | None = None
    digests: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"alpha {self.alpha:g}, seed {self.seed}"

    @classmethod
    def read(cls, fields: Fields) -> ArmResult:
        """Return the arm in an object of a result.

        Raises:
            DataError: A value has the wrong type, or alpha, seed or state is missing.
        """
        state = next((known for known in get_args(ArmState) if known == fields.text("state")), None)
        if state is None:
            allowed = ", ".join(get_args(ArmState))
            raise DataError(f"{fields.where}: state is {fields.text('state') or ''!r}, it can be {allowed}")
        curves, digests, steps = fields.child("curves"), fields.child("digests"), fields.number("steps")
        return cls(
            alpha=fields.needed("alpha"),
            seed=int(fields.needed("seed")),
            state=state,
            error=fields.text("error"),
            seconds=fields.number("seconds"),
            folder=fields.text("folder") or "",
            held_out_loss=fields.number("held_out_loss"),
            train_clean_loss=fields.number("train_clean_loss"),
            held_out_per_sample=fields.numbers("held_out_per_sample"),
            train_per_sample=fields.numbers("train_per_sample"),
            curves={name: curves.points(name) for name in curves.names()} if curves else {},
            text_statistics=fields.child("text_statistics"),
            memorization=fields.child("memorization"),
            answers=[_answer(child) for child in fields.children("answers")],
            steps=None if steps is None else int(steps),
            digests=digests.data if digests else {},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `read` reads."""
        statistics, memorization = self.text_statistics, self.memorization
        return {
            **vars(self),
            "held_out_per_sample": list(self.held_out_per_sample),
            "train_per_sample": list(self.train_per_sample),
            "curves": {name: _points(curve) for name, curve in self.curves.items()},
            "text_statistics": statistics.data if statistics else None,
            "memorization": memorization.data if memorization else None,
            "answers": [
                {"instruction": one.instruction, "output": one.output, "reference": one.reference}
                | ({"input": one.input} if one.input else {})
                for one in self.answers
            ],
        }


@dataclass(frozen=True)
class Comparison:
    """A paired difference between an alpha and the baseline.

    Attributes:
        alpha: The alpha.
        baseline: Alpha of the baseline.
        metric: What was compared.
        difference: Mean of the differences.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Coverage of the interval.
        n_seeds: Number of seeds.
        n_samples: Number of samples.
        verdict: What the interval says, in words.
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
    verdict: str = ""

    @property
    def interval(self) -> Interval:
        """The difference with its interval."""
        return Interval(self.difference, self.low, self.high, self.level, self.n_seeds)

    @classmethod
    def read(cls, fields: Fields) -> Comparison:
        """Return the comparison in an object of a result.

        Raises:
            DataError: A value has the wrong type or is missing, or the ends of the interval are swapped.
        """
        samples = fields.number("n_samples")
        low, high = fields.needed("low"), fields.needed("high")
        if low > high:
            raise DataError(f"{fields.where}: low is {low:g}, above high, which is {high:g}")
        return cls(
            alpha=fields.needed("alpha"),
            baseline=fields.number("baseline") or 0.0,
            metric=fields.text("metric") or "",
            difference=fields.needed("difference"),
            low=low,
            high=high,
            level=fields.number("level") or 0.95,
            n_seeds=int(fields.needed("n_seeds")),
            n_samples=None if samples is None else int(samples),
            verdict=fields.text("verdict") or "",
        )


@dataclass(frozen=True)
class StudyResult:
    """A study.

    Attributes:
        label: Its label.
        recipe: Name of its recipe.
        arms: Its arms.
        comparisons: Each alpha against the baseline, one for each metric.
    """

    label: str
    recipe: str
    arms: Sequence[ArmResult]
    comparisons: Sequence[Comparison]

    @property
    def alphas(self) -> list[float]:
        """The alphas, the baseline first."""
        return sorted({arm.alpha for arm in self.arms})

    def of_alpha(self, alpha: float, state: ArmState = "complete") -> list[ArmResult]:
        """Return the arms with an alpha that are in a state."""
        return [arm for arm in self.arms if arm.alpha == alpha and arm.state == state]

    def in_state(self, *states: ArmState) -> list[ArmResult]:
        """Return the arms in one of these states."""
        return [arm for arm in self.arms if arm.state in states]

    @classmethod
    def read(cls, fields: Fields) -> StudyResult:
        """Return the study of a result, its arms sorted by alpha and seed.

        Raises:
            DataError: A value has the wrong type or is missing, or there are no arms.
        """
        arms = sorted(map(ArmResult.read, fields.children("arms")), key=lambda arm: (arm.alpha, arm.seed))
        if not arms:
            raise DataError(f"{fields.where}: this study has no arms")
        return cls(
            label=fields.text("label") or "study",
            recipe=fields.text("recipe") or "",
            arms=arms,
            comparisons=[Comparison.read(child) for child in fields.children("comparisons")],
        )

    def metrics(self) -> dict[str, Any]:
        """Return what the result holds besides label and provenance; `read` reads it."""
        return {
            "recipe": self.recipe,
            "alphas": self.alphas,
            "seeds": sorted({arm.seed for arm in self.arms}),
            "arms": [arm.to_json() for arm in self.arms],
            "comparisons": [asdict(one) for one in self.comparisons],
        }


def _answer(fields: Fields) -> Output:
    return Output(
        instruction=fields.text("instruction") or "",
        output=fields.text("output") or "",
        input=fields.text("input") or "",
        reference=fields.text("reference"),
    )


def _points(curve: Curve) -> list[list[float | None]]:
    """JSON has no NaN."""
    return [[step, value if math.isfinite(value) else None] for step, value in curve]
