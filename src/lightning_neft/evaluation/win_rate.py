"""Win rates from a judge's preferences: counted as in AlpacaEval, and at equal length by this package's own model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from scipy.special import expit

from lightning_neft.errors import DataError
from lightning_neft.evaluation.bootstrap import Interval, paired_interval

__all__ = [
    "LengthControlled",
    "WinRate",
    "length_controlled_difference",
    "length_controlled_win_rate",
    "win_rate",
    "win_rate_difference",
]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WinRate:
    """How often a model was preferred over the baseline.

    Attributes:
        n_total: Judged pairs.
        n_wins: Pairs in which the model was preferred.
        n_losses: Pairs in which the baseline was.
        n_draws: Pairs in which neither was.
        win_rate: Percent; a draw is half a win.
        standard_error: Of the win rate, in percent; None for a single pair.
    """

    n_total: int
    n_wins: int
    n_losses: int
    n_draws: int
    win_rate: float
    standard_error: float | None


@dataclass(frozen=True)
class LengthControlled:
    """The win rate that the model would have with answers as long as the baseline's.

    Attributes:
        win_rate: Percent; None if it cannot be estimated.
        standard_error: Of it, in percent.
        length_effect: Coefficient of the length term: above 0 where longer answers win more often.
        reason: Why it cannot be estimated; empty if it can.
    """

    win_rate: float | None = None
    standard_error: float | None = None
    length_effect: float | None = None
    reason: str = ""


def win_rate(wins: npt.ArrayLike) -> WinRate:
    """Count as AlpacaEval does (`describe_head2head`): the mean, and its standard error from the sample's variance.

    Args:
        wins: (pairs,): 1 where the model was preferred, 0 where the baseline was, 0.5 for a draw; a judge that weighs
            gives a value between. AlpacaEval's `preference` is this plus 1.

    Raises:
        DataError: There are none, or one is not between 0 and 1.

    Example:
        >>> win_rate([1, 0, 0.5, 1])
        WinRate(n_total=4, n_wins=2, n_losses=1, n_draws=1, win_rate=62.5, standard_error=23.935677693908453)
    """
    values = _checked(wins)
    return WinRate(
        n_total=len(values),
        n_wins=int((values > 0.5).sum()),
        n_losses=int((values < 0.5).sum()),
        n_draws=int((values == 0.5).sum()),
        win_rate=100 * float(values.mean()),
        standard_error=100 * float(stats.sem(values)) if len(values) > 1 else None,
    )


def length_controlled_win_rate(wins: npt.ArrayLike, longer_by: npt.ArrayLike) -> LengthControlled:
    """Return the win rate at equal length, from a logistic regression on these pairs alone.

        P(win) = sigmoid(theta + phi * tanh(d / s)),    the rate is sigmoid(theta)

    d is the model's length minus the baseline's in characters, s the standard deviation of d. Draws count as half a win
    and half a loss. The standard error is sigmoid'(theta) times that of theta, with the sandwich estimator, which does
    not assume that the outcomes are coin flips.

    The length term is that of AlpacaEval 2 (Dubois et al., arXiv 2404.04475), but the number is not theirs: their model
    also has a difficulty for each instruction, estimated from many other models, and a penalty.

    Args:
        wins: (pairs,), see `win_rate`.
        longer_by: (pairs,): d.

    Returns:
        None as its numbers, with the reason, where the regression has no finite solution (lengths separate wins from
        losses), the differences in length have fewer than three values, or equal length is outside their range.

    Raises:
        DataError: There are none, or one is not between 0 and 1.

    Example:
        >>> found = length_controlled_win_rate([1, 0, 1, 0, 1, 0, 0.5, 0.5], [90, 80, 60, -20, 10, -60, 70, -40])
        >>> round(found.win_rate), found.length_effect > 0
        (42, True)
    """
    fit = _fit(_checked(wins), np.asarray(longer_by, np.float64))
    if isinstance(fit, str):
        return LengthControlled(reason=fit)
    return LengthControlled(100 * fit.rate, 100 * float(np.linalg.norm(fit.influence)), fit.length_effect)


def length_controlled_difference(
    wins: npt.ArrayLike, longer_by: npt.ArrayLike, other_wins: npt.ArrayLike, other_longer_by: npt.ArrayLike
) -> Interval | str:
    """Return a model's win rate at equal length minus another one's, in percent points, with an interval of 95 %.

    Each rate is that of `length_controlled_win_rate`. What one pair moves the two rates by is subtracted pair by pair,
    so that an instruction that is easy for both widens nothing. The interval has Student's quantile, for the two
    coefficients that each rate is fitted with; it still holds for large numbers of pairs only.

    Args:
        wins: (pairs,), see `win_rate`.
        longer_by: (pairs,), see `length_controlled_win_rate`.
        other_wins: (pairs,), on the same instructions in the same order.
        other_longer_by: (pairs,), of those.

    Returns:
        The reason instead, if one of the models has no such rate.

    Raises:
        DataError: The numbers of pairs differ.
    """
    these, others = _checked_pairs(wins, other_wins)
    fit = _fit(these, np.asarray(longer_by, np.float64))
    other = _fit(others, np.asarray(other_longer_by, np.float64))
    if isinstance(fit, str) or isinstance(other, str):
        return fit if isinstance(fit, str) else str(other)
    difference = 100 * (fit.rate - other.rate)
    count = len(these)
    error = 100 * float(np.linalg.norm(fit.influence - other.influence)) * math.sqrt(count / (count - 2))
    half = error * float(stats.t.ppf(0.975, count - 2))
    return Interval(difference, difference - half, difference + half, 0.95)


@dataclass(frozen=True)
class _Fit:
    """The regression on one model's pairs.

    Attributes:
        rate: At equal length, 0 to 1.
        influence: (pairs,), by how much each pair moves the rate; the norm is the standard error, by the delta method
            with the sandwich estimator.
        length_effect: Coefficient of the length term.
    """

    rate: float
    influence: _Floats
    length_effect: float


def _fit(outcomes: _Floats, lengths: _Floats) -> _Fit | str:
    """Fit the regression; return the reason if that is not possible."""
    if reason := _why_none(outcomes, lengths):
        return reason
    features = np.stack([np.ones_like(lengths), np.tanh(lengths / lengths.std())], axis=1)
    count = len(outcomes)

    def gradient(theta: _Floats) -> _Floats:
        found: _Floats = features.T @ (expit(features @ theta) - outcomes) / count
        return found

    def curvature(theta: _Floats) -> _Floats:
        chance = expit(features @ theta)
        found: _Floats = (features.T * (chance * (1 - chance))) @ features / count
        return found

    # The likelihood is concave: it has its maximum where its slope is zero.
    fit = optimize.root(gradient, np.zeros(2), jac=curvature)
    if not fit.success:
        return f"the regression did not converge: {fit.message}"
    residuals = outcomes - expit(features @ fit.x)
    bread = np.linalg.inv(curvature(fit.x) * count)
    rate = float(expit(fit.x[0]))
    return _Fit(rate, rate * (1 - rate) * residuals * (features @ bread[0]), float(fit.x[1]))


def _why_none(outcomes: _Floats, lengths: _Floats) -> str:
    if len(np.unique(lengths)) < 3:
        return "the differences in length have fewer than three values, too few to estimate their effect"
    if not lengths.min() <= 0 <= lengths.max():
        side = "longer" if lengths.min() > 0 else "shorter"
        return f"every answer is {side} than the baseline's, so equal length is outside the observed range"
    # A draw is both a win and a loss.
    won, lost = lengths[outcomes > 0], lengths[outcomes < 1]
    if not len(won) or not len(lost):
        return f"there is no {'win' if not len(won) else 'loss'}"
    if won.min() >= lost.max() or lost.min() >= won.max():
        return "the difference in length separates all wins from all losses, so the regression has no finite solution"
    return ""


def win_rate_difference(wins: npt.ArrayLike, other_wins: npt.ArrayLike, seed: int = 0) -> Interval:
    """Return a model's win rate minus another one's on the same instructions, in percent points, with its interval.

    Args:
        wins: (pairs,), see `win_rate`.
        other_wins: (pairs,), on the same instructions in the same order.
        seed: Of the bootstrap.

    Raises:
        DataError: There are fewer than two pairs, or the numbers of pairs differ.
    """
    these, others = _checked_pairs(wins, other_wins)
    return paired_interval(100 * (these - others), seed=seed)


def _checked_pairs(wins: npt.ArrayLike, other_wins: npt.ArrayLike) -> tuple[_Floats, _Floats]:
    these, others = _checked(wins), _checked(other_wins)
    if len(these) != len(others):
        raise DataError(f"paired win rates need the same instructions, got {len(these)} and {len(others)} of them")
    return these, others


def _checked(wins: npt.ArrayLike) -> _Floats:
    values = np.asarray(wins, np.float64)
    if values.ndim != 1 or not len(values):
        raise DataError(f"a win rate needs one or more judged pairs, got an array of shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("a win is 1, a loss 0 and a draw 0.5, and one of the values is not between 0 and 1")
    return values
