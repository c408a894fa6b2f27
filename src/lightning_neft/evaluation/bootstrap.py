"""Intervals of paired differences over seeds and samples, by bootstrap, and what they say in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from lightning_neft.errors import DataError

__all__ = ["MIN_SEEDS", "Interval", "paired_interval", "verdict"]

MIN_SEEDS = 3
"""Seeds that a verdict takes: of one seed there is no spread between seeds, of two only a single difference."""

# Numbers that are drawn at once: 32 MB.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it.

    Attributes:
        mean: Of all differences.
        low: Lower end.
        high: Upper end.
        level: Share of such intervals that hold the true value, such as 0.95.
        n_seeds: Training seeds that the differences are from; None where no training was repeated, as for the answers
            of two models.
    """

    mean: float
    low: float
    high: float
    level: float
    n_seeds: int | None = None

    @property
    def has_few_seeds(self) -> bool:
        """Whether too few trainings were compared to tell the noise from the luck of a seed."""
        return self.n_seeds is not None and self.n_seeds < MIN_SEEDS

    @property
    def holds_zero(self) -> bool:
        """Whether it may well be that there is no difference."""
        return self.low <= 0 <= self.high

    @property
    def has_width(self) -> bool:
        """Whether the differences had any spread; without one, such as of two pairs both won, nothing can be told."""
        return not math.isclose(self.low, self.high)

    @property
    def is_evidence(self) -> bool:
        """Whether it shows a difference."""
        return self.has_width and not self.holds_zero and not self.has_few_seeds


def paired_interval(differences: npt.ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean of paired differences with its bootstrap interval.

    Each draw takes seeds with replacement, then samples, the same ones for all seeds: every seed was measured on the
    same samples, so that a hard sample is hard in all rows (the pigeonhole bootstrap; Owen 2007, arXiv 0711.1066).
    With one seed only the samples are drawn: another seed may well lie outside of such an interval, so that below
    `MIN_SEEDS` seeds it is no evidence.

    Percentiles of such draws are too narrow where there are few seeds: three of them lie all on one side of the truth
    in a quarter of all studies. So the distances between the mean and the percentiles are widened, as Student's
    quantiles are against the normal ones, with the degrees of freedom after Satterthwaite from the spread of the rows'
    means and of the columns' means. With many samples and no spread between seeds this changes nothing.

    Args:
        differences: (n_seeds, n_samples), or (n_samples,): what was measured, minus the baseline on the same sample
            and seed. In the second form no training was repeated, and `n_seeds` is None.
        level: Coverage that is aimed at.
        draws: Number of draws.
        seed: Of the draws, so that the same data give the same interval.

    Raises:
        DataError: There are fewer than two differences, or one is no finite number.

    Example:
        >>> found = paired_interval([0.1, 0.3, 0.2, 0.4], seed=0)
        >>> round(found.mean, 2), found.low < 0.25 < found.high, found.level
        (0.25, True, 0.95)
    """
    given = np.asarray(differences, dtype=np.float64)
    values = np.atleast_2d(given)
    if values.ndim != 2 or values.size < 2:
        raise DataError(f"an interval needs two or more paired differences, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise DataError("an interval needs finite differences, and one of them is NaN or infinite")
    mean = float(values.mean())
    tail = (1 - level) / 2
    low, high = np.quantile(_drawn_means(values, draws, np.random.default_rng(seed)), [tail, 1 - tail])
    factor = _widening(values, 1 - tail)
    ends = (float(mean + factor * (low - mean)), float(mean + factor * (high - mean)))
    return Interval(mean, *ends, level, n_seeds=len(given) if given.ndim == 2 else None)


def _drawn_means(values: npt.NDArray[np.float64], draws: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return (draws,), the mean of each draw."""
    seeds, samples = values.shape
    means = []
    step = max(1, _BLOCK // samples)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        # How often each seed was taken, as its weight: (count, seeds).
        weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        chosen = random.integers(samples, size=(count, samples))
        means.append(np.take_along_axis(weights @ values, chosen, axis=1).mean(axis=1))
    return np.concatenate(means)


def _widening(values: npt.NDArray[np.float64], quantile: float) -> float:
    """Return Student's quantile over the normal one, times what the draws lack in spread because they are few."""
    # Variance of the mean by rows and by columns, each with the spread within the other; 0 for a single one.
    parts = [(_variance_of_mean(values.mean(axis=1 - axis)), values.shape[axis]) for axis in (0, 1)]
    total: float = sum(variance for variance, _ in parts)
    if total == 0:
        return 1.0
    freedom = total**2 / sum(variance**2 / (count - 1) for variance, count in parts if count > 1)
    drawn = sum(variance * (count - 1) / count for variance, count in parts)
    return float(stats.t.ppf(quantile, freedom) / stats.norm.ppf(quantile)) * math.sqrt(total / drawn)


def _variance_of_mean(means: npt.NDArray[Any]) -> float:
    return float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0


def verdict(interval: Interval, lower_is_better: bool) -> str:
    """Say in a sentence what an interval of "this minus the baseline" tells.

    Args:
        interval: Of the difference.
        lower_is_better: True for losses, False for win rates and the like.

    Example:
        >>> verdict(Interval(-0.2, -0.3, -0.1, 0.95), lower_is_better=True)
        'better: lower by 0.2 (95 % interval 0.1 to 0.3)'
        >>> verdict(Interval(0.2, -0.1, 0.5, 0.95), lower_is_better=True)
        'no evidence of a difference (0.2, 95 % interval -0.1 to 0.5)'
        >>> verdict(Interval(-0.2, -0.3, -0.1, 0.95, n_seeds=1), lower_is_better=True)
        'no verdict from 1 seed, use 3 or more (-0.2, 95 % interval -0.3 to -0.1)'
    """
    if interval.has_few_seeds:
        seeds = f"{interval.n_seeds} seed{'s' if interval.n_seeds != 1 else ''}"
        return f"no verdict from {seeds}, use {MIN_SEEDS} or more ({_numbers(interval)})"
    if not interval.has_width:
        return f"no evidence of a difference ({interval.mean:.3g} each time, without a spread to judge by)"
    if not interval.is_evidence:
        return f"no evidence of a difference ({_numbers(interval)})"
    is_lower = interval.mean < 0
    ends = sorted((abs(interval.low), abs(interval.high)))
    return (
        f"{'better' if is_lower == lower_is_better else 'worse'}: {'lower' if is_lower else 'higher'} by "
        f"{abs(interval.mean):.3g} ({_percent(interval)} {ends[0]:.3g} to {ends[1]:.3g})"
    )


def _numbers(interval: Interval) -> str:
    if not interval.has_width:
        return f"{interval.mean:.3g} each time"
    return f"{interval.mean:.3g}, {_percent(interval)} {interval.low:.3g} to {interval.high:.3g}"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.level:g} % interval"
