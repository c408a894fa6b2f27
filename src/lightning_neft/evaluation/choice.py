"""The alpha that the evidence of a study supports, corrected for the number of alphas that were compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lightning_neft.evaluation.bootstrap import Interval, paired_interval
from lightning_neft.evaluation.pairs import HELD_OUT_LOSS, paired_differences
from lightning_neft.evaluation.study_result import StudyResult

__all__ = ["Choice", "choose_alpha", "corrected_intervals"]

Key = TypeVar("Key")


@dataclass(frozen=True)
class Choice:
    """An alpha, and why.

    Attributes:
        alpha: 0 if no other one is better at the level.
        intervals: Of the held-out loss of each alpha minus that of alpha 0, each at the level that it had to pass.
        level: Probability that no alpha is chosen if noise changes nothing, at least.
    """

    alpha: float
    intervals: Mapping[float, Interval]
    level: float

    @property
    def interval(self) -> Interval | None:
        """The interval of the alpha; None for 0."""
        return self.intervals.get(self.alpha)

    @property
    def compared(self) -> int:
        """Number of alphas that were compared with 0."""
        return len(self.intervals)

    @property
    def reason(self) -> str:
        """The reason as a clause."""
        among = f"{self.compared} alphas, corrected by Holm" if self.compared > 1 else "one alpha"
        if self.interval is None:
            return f"no evidence at {100 * self.level:g} % that another alpha has a lower held-out loss ({among})"
        return (
            f"held-out loss lower than with alpha 0 by {-self.interval.mean:.3g} ({100 * self.interval.level:.4g} % "
            f"interval "
            f"{-self.interval.high:.3g} to {-self.interval.low:.3g}, {self.interval.n_seeds} seeds; the lowest of "
            f"{among})"
        )


def choose_alpha(study: StudyResult, level: float = 0.95) -> Choice:
    """Choose the alpha with the lowest held-out loss among those whose interval excludes 0; 0 if there is none.

    The intervals are corrected by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979, 65-70), so that
    the probability to choose noise that does nothing is at most 1 - level, however many alphas were compared.

    Args:
        study: Its arms.
        level: See above.
    """
    intervals = corrected_intervals(paired_differences(study.arms, HELD_OUT_LOSS), level)
    better = {alpha: found for alpha, found in intervals.items() if found.is_evidence and found.mean < 0}
    return Choice(min(better, key=lambda alpha: better[alpha].mean, default=0.0), intervals, level)


def corrected_intervals(rows: Mapping[Key, npt.NDArray[np.float64]], level: float = 0.95) -> dict[Key, Interval]:
    """Return the interval of each comparison, corrected by Holm's step-down method for how many they are.

    Args:
        rows: Paired differences of each comparison, float64 (n_seeds, n_samples).
        level: Probability that none is evidence if no difference is real, at least.

    Returns:
        The interval of each at the level of the last step that it took part in.
    """
    left = dict(rows)
    found: dict[Key, Interval] = {}
    while left:
        corrected = 1 - (1 - level) / len(left)
        found |= {key: paired_interval(differences, corrected) for key, differences in left.items()}
        still = {key: differences for key, differences in left.items() if not found[key].is_evidence}
        if len(still) == len(left):
            break
        left = still
    return found
