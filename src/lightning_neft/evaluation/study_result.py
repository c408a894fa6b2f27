"""The result of a study: its arms and their comparisons, as `study` writes them and `report` reads them.

The dataclasses are the schema: a field is a key of the JSON object, and one with a default may be missing or null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from lightning_neft.errors import DataError
from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.evaluation.records import Output
from lightning_neft.evaluation.result import Curve, Fields

__all__ = ["ArmResult", "ArmState", "Comparison", "StudyResult"]

T = TypeVar("T")
ArmState = Literal["complete", "failed", "pruned", "waiting"]


@dataclass(frozen=True)
class ArmResult:
    """One arm of a study.

    Attributes:
        alpha: Its alpha.
        seed: Its seed.
        state: Whether it has ended, and how.
        error: Why it failed; None if it did not.
        seconds: How long it took.
        folder: Folder of its run, relative to the folder of the study.
        held_out_loss: Mean over the held-out samples, noise off.
        train_clean_loss: Mean over the measured training samples, noise off.
        held_out_per_sample: Loss of each held-out sample.
        train_per_sample: Loss of each measured training sample.
        curves: Pairs of step and value by the name of the logged value.
        text_statistics: Statistics of its answers; None if there are none.
        memorization: Scores of its answers to training prompts; None if there are none.
        answers: Its answers to held-out prompts.
        steps: Number of optimizer steps.
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
        """Its name in tables and messages."""
        return f"alpha {self.alpha:g}, seed {self.seed}"

    @classmethod
    def read(cls, found: Fields) -> ArmResult:
        """Return the arm in an object of a result.

        Raises:
            DataError: A value has the wrong type, or alpha, seed or state is missing.
        """
        return _read(cls, found)


@dataclass(frozen=True, kw_only=True)
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
        verdict: The verdict as a sentence.
    """

    alpha: float
    baseline: float = 0.0
    metric: str = ""
    difference: float
    low: float
    high: float
    level: float = 0.95
    n_seeds: int
    n_samples: int | None = None
    verdict: str = ""

    @property
    def interval(self) -> Interval:
        """The difference with its interval."""
        return Interval(self.difference, self.low, self.high, self.level, self.n_seeds)


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A study.

    Attributes:
        label: Its label.
        recipe: Name of its recipe.
        arms: Its arms.
        comparisons: Each alpha compared with the baseline, one for each metric.
        model: The base model; empty where the settings of the result do not name it, as is true of `data`.
        data: The source of its data.
        data_digest: Checksum of the prepared data.
        steps: Planned optimizer steps of each arm; None where the settings do not say.
    """

    label: str = "study"
    recipe: str = ""
    arms: Sequence[ArmResult]
    comparisons: Sequence[Comparison]
    model: str = ""
    data: str = ""
    data_digest: str = ""
    steps: int | None = None

    @property
    def alphas(self) -> list[float]:
        """The alphas, the baseline first."""
        return sorted({arm.alpha for arm in self.arms})

    def of_alpha(self, alpha: float, *states: ArmState) -> list[ArmResult]:
        """Return the arms with an alpha that are in one of these states, by default the complete ones."""
        return [arm for arm in self.in_state(*(states or ("complete",))) if arm.alpha == alpha]

    def in_state(self, *states: ArmState) -> list[ArmResult]:
        """Return the arms in one of these states."""
        return [arm for arm in self.arms if arm.state in states]

    @classmethod
    def read(cls, found: Fields) -> StudyResult:
        """Return the study of a result, its arms sorted by alpha and seed.

        Raises:
            DataError: A value has the wrong type or is missing, the ends of an interval are swapped, or there are no
                arms.
        """
        arms = sorted((_read(ArmResult, one) for one in found.children("arms")), key=lambda arm: (arm.alpha, arm.seed))
        if not arms:
            raise DataError(f"{found.where}: this study has no arms")
        comparisons = []
        for one in found.children("comparisons"):
            comparisons.append(_read(Comparison, one))
            if (low := comparisons[-1].low) > (high := comparisons[-1].high):
                raise DataError(f"{one.where}: low is {low:g}, above high, which is {high:g}")
        names = {key: text for key in ("label", "recipe") if (text := found.text(key))}
        source = found.child("provenance")
        settings = (source.child("settings") if source else None) or Fields({}, found.where)
        names |= {key: text for key in ("model", "data", "data_digest") if (text := settings.text(key))}
        return cls(arms=arms, comparisons=comparisons, steps=_whole(settings, "steps"), **names)

    def metrics(self) -> dict[str, Any]:
        """Return the keys of the result other than label and provenance; `read` reads them all."""
        return {
            "recipe": self.recipe,
            "alphas": self.alphas,
            "seeds": sorted({arm.seed for arm in self.arms}),
            "arms": _plain(self.arms),
            "comparisons": _plain(self.comparisons),
        }


def _read(kind: type[T], found: Fields) -> T:
    """Return an object as a dataclass."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        value = _READERS[hints[one.name]](found, one.name)
        if value is not None:
            values[one.name] = value
        elif one.default is MISSING and one.default_factory is MISSING:
            values[one.name] = found.needed(one.name)
    return kind(**values)


def _whole(found: Fields, key: str) -> int | None:
    value = found.number(key)
    return None if value is None else int(value)


def _state(found: Fields, key: str) -> str:
    state = found.text(key) or ""
    if state not in get_args(ArmState):
        raise DataError(f"{found.where}: {key} is {state!r}, it can be {', '.join(get_args(ArmState))}")
    return state


def _curves(found: Fields, key: str) -> dict[str, Curve]:
    curves = found.child(key)
    return {name: curves.points(name) for name in curves.names()} if curves else {}


def _object(found: Fields, key: str) -> Mapping[str, Any] | None:
    inner = found.child(key)
    return inner.data if inner else None


def _answers(found: Fields, key: str) -> list[Output]:
    return [
        Output(
            instruction=one.text("instruction") or "",
            output=one.text("output") or "",
            input=one.text("input") or "",
            reference=one.text("reference"),
        )
        for one in found.children(key)
    ]


# By the annotation of a field; each returns None for a missing or null value.
_READERS: dict[Any, Callable[[Fields, str], Any]] = {
    float: Fields.number,
    float | None: Fields.number,
    int: _whole,
    int | None: _whole,
    str: Fields.text,
    str | None: Fields.text,
    ArmState: _state,
    Fields | None: Fields.child,
    Sequence[float]: Fields.numbers,
    Sequence[Output]: _answers,
    Mapping[str, Curve]: _curves,
    Mapping[str, Any]: _object,
}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: null for a number that is not finite."""
    if isinstance(value, Output):
        kept = {"instruction": value.instruction, "output": value.output, "reference": value.reference}
        return kept | ({"input": value.input} if value.input else {})
    if isinstance(value, Fields):
        return value.data
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
