"""Alpha over the run: a factor that depends on the completed share of the run."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Literal

from lightning_neft.errors import ConfigError

__all__ = ["AlphaSchedule", "ScheduleName"]

ScheduleName = Literal["constant", "linear", "cosine"]


def _constant(progress: float) -> float:
    return 1.0


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _is_share(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and 0 <= float(value) < 1


_SHAPES: dict[str, Callable[[float], float]] = {"constant": _constant, "linear": _linear, "cosine": _cosine}


class AlphaSchedule:
    """Factor of alpha as a function of progress: a linear warm-up from 0, then the shape.

    Args:
        shape: `constant`, `linear` (to 0 at the end), `cosine` (half a period, to 0 at the end), or a callable from
            progress in [0, 1] to a factor of at least 0. Progress counts from the end of the warm-up.
        warmup: Share of the run, in [0, 1), over which the factor rises from 0.

    Raises:
        ConfigError: An unknown name, a warm-up outside [0, 1), or a factor that is negative or not finite.

    >>> schedule = AlphaSchedule("linear", warmup=0.5)
    >>> [schedule(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(self, shape: ScheduleName | Callable[[float], float] = "constant", warmup: float = 0.0) -> None:
        if not callable(shape) and shape not in _SHAPES:
            raise ConfigError(
                f"schedule={shape!r}: use one of {', '.join(_SHAPES)}, or a callable from progress to a factor."
            )
        if not _is_share(warmup):
            raise ConfigError(f"warmup={warmup!r}: use a share of the run, at least 0 and below 1.")
        self.shape = shape
        self.warmup = float(warmup)

    @property
    def is_constant(self) -> bool:
        """Whether the factor does not depend on progress, so that the length of the run need not be known."""
        return self.shape == "constant" and self.warmup == 0

    def __call__(self, progress: float) -> float:
        """Factor at `progress`, a share of the run; values outside [0, 1] are clamped."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return progress / self.warmup
        shape = self.shape if callable(self.shape) else _SHAPES[self.shape]
        given = shape((progress - self.warmup) / (1 - self.warmup))
        try:
            factor = float(given)
        except (TypeError, ValueError):
            factor = math.nan
        if not math.isfinite(factor) or factor < 0:
            raise ConfigError(f"schedule returned {given!r} at progress {progress:.4f}: return a finite factor >= 0.")
        return factor
