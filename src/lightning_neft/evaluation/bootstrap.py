"""Bootstrap intervals of paired differences over seeds and samples, and their verdict in plain words."""

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
"""Minimum number of seeds for a verdict: one seed shows no spread between seeds, two only a single difference."""

# Numbers drawn at once: 32 MB.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it.

    Attributes:
        mean: Of all differences.
        low: Lower end.
        high: Upper end.
        level: Share of such intervals that include the true value, such as 0.95.
        n_seeds: Number of training seeds; None if no training was repeated, as for the answers of two models.
    """

    mean: float
    low: float
    high: float
    level: float
    n_seeds: int | None = None

    @property
    def has_few_seeds(self) -> bool:
        """Whether too few seeds were compared to separate the effect of the noise from that of the seed."""
        return self.n_seeds is not None and self.n_seeds < MIN_SEEDS

    @property
    def includes_zero(self) -> bool:
        """Whether it includes 0, so that there may be no difference."""
        return self.low <= 0 <= self.high

    @property
    def has_width(self) -> bool:
        """Whether the differences have any spread; without one, as for two pairs both won, there is no verdict."""
        return not math.isclose(self.low, self.high)

    @property
    def is_evidence(self) -> bool:
        """Whether it is evidence of a difference."""
        return self.has_width and not self.includes_zero and not self.has_few_seeds


def paired_interval(differences: npt.ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean of paired differences with its bootstrap interval.

    Each draw takes seeds with replacement, then samples, the same ones for all seeds: every seed was measured on the
    same samples, so a hard sample is hard in all rows (the pigeonhole bootstrap; Owen 2007, arXiv 0711.1066).
    With one seed only the samples are drawn, and another seed may well lie outside such an interval. Therefore it is
    not evidence below `MIN_SEEDS` seeds.

    Percentiles of such draws are too narrow for few seeds: three seeds all lie on one side of the truth in a quarter of
    all studies. So the distances between the mean and the percentiles are widened by the ratio of Student's quantile to
    the normal one, with Satterthwaite's degrees of freedom from the spread of the rows' means and of the columns'
    means. With many samples and no spread between seeds this changes nothing.

    Args:
        differences: (n_seeds, n_samples), or (n_samples,): the metric minus that of the baseline on the same sample
            and seed. In the second form no training was repeated, and `n_seeds` is None.
        level: Target coverage.
        draws: Number of draws.
        seed: Of the draws, so that the same data give the same interval.

    Raises:
        DataError: There are fewer than two differences, or one is not finite.

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
    """Return the ratio of Student's quantile to the normal one, times the spread that draws from few values lack."""
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
    """Return the verdict on an interval of "this minus the baseline" as a sentence.

    Args:
        interval: Of the difference.
        lower_is_better: Whether a lower value is better; otherwise neither direction is called so.

    Example:
        >>> verdict(Interval(-0.2, -0.3, -0.1, 0.95), lower_is_better=True)
        'better: lower by 0.2 (95 % interval 0.1 to 0.3)'
        >>> verdict(Interval(-0.2, -0.3, -0.1, 0.95), lower_is_better=False)
        'lower by 0.2 (95 % interval 0.1 to 0.3)'
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
    size = f"{abs(interval.mean):.3g} ({_percent(interval)} {ends[0]:.3g} to {ends[1]:.3g})"
    sentence = f"{'lower' if is_lower else 'higher'} by {size}"
    return f"{'better' if is_lower else 'worse'}: {sentence}" if lower_is_better else sentence


def _numbers(interval: Interval) -> str:
    if not interval.has_width:
        return f"{interval.mean:.3g} each time"
    return f"{interval.mean:.3g}, {_percent(interval)} {interval.low:.3g} to {interval.high:.3g}"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.level:g} % interval"
