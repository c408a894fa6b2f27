"""The alpha that the evidence of a study supports, corrected for the number of alphas that were compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lightning_neft.evaluation.bootstrap import Interval, paired_interval
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.study.result import HELD_OUT_LOSS, paired_differences

__all__ = ["Choice", "choose_alpha"]


@dataclass(frozen=True)
class Choice:
    """An alpha, and why.

    Attributes:
        alpha: 0 if no other one is better at the level.
        interval: Its held-out loss minus that of alpha 0, at the level that it had to pass; None for 0.
        compared: Number of alphas that were compared with 0.
        level: Probability that no alpha is chosen if noise changes nothing, at least.
    """

    alpha: float
    interval: Interval | None
    compared: int
    level: float

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
    rows = paired_differences(study.arms, HELD_OUT_LOSS)
    better = {alpha: found for alpha, found in _evident(rows, level).items() if found.mean < 0}
    chosen = min(better, key=lambda alpha: better[alpha].mean, default=0.0)
    return Choice(chosen, better.get(chosen), len(rows), level)


def _evident(rows: Mapping[float, npt.NDArray[np.float64]], level: float) -> dict[float, Interval]:
    """Return the intervals that are evidence of a difference, by alpha."""
    left = dict(rows)
    evident: dict[float, Interval] = {}
    while left:
        corrected = 1 - (1 - level) / len(left)
        intervals = {alpha: paired_interval(differences, corrected) for alpha, differences in left.items()}
        found = {alpha: interval for alpha, interval in intervals.items() if interval.is_evidence}
        if not found:
            break
        evident |= found
        left = {alpha: differences for alpha, differences in left.items() if alpha not in found}
    return evident
