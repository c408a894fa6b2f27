"""Win rates: counted by hand, and at equal length where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from lightning_neft.errors import DataError
from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.evaluation.win_rate import (
    length_controlled_difference,
    length_controlled_win_rate,
    win_rate,
    win_rate_difference,
)


def test_wins_losses_and_draws_are_counted_as_alpacaeval_does() -> None:
    found = win_rate([1, 1, 0, 0.5, 0.75, 0.25])
    assert (found.n_total, found.n_wins, found.n_losses, found.n_draws) == (6, 3, 2, 1)
    assert found.win_rate == pytest.approx(100 * 3.5 / 6)
    # Squared distances from 7/12, in 144ths: 25 + 25 + 49 + 1 + 4 + 16 = 120; over 5 for the variance, over 6 more.
    assert found.standard_error == pytest.approx(100 * math.sqrt(120 / 144 / 5 / 6))


def test_a_single_pair_has_no_standard_error() -> None:
    assert win_rate([1]).standard_error is None


@pytest.mark.parametrize("wins", [[], [1, 2], [1, -0.5], [float("nan")]])
def test_what_is_no_win_is_refused(wins: list[float]) -> None:
    with pytest.raises(DataError):
        win_rate(wins)


def _drawn(rate: float, effect: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of a judge who likes length, between models of which one writes longer."""
    random = np.random.default_rng(seed)
    lengths = random.normal(300, 400, size=count)
    logits = math.log(rate / (1 - rate)) + effect * np.tanh(lengths / lengths.std())
    return (random.random(count) < expit(logits)).astype(float), lengths


def test_the_rate_at_equal_length_is_free_of_length_bias() -> None:
    wins, lengths = _drawn(0.4, 2.0, 20_000, seed=1)
    found = length_controlled_win_rate(wins, lengths)
    assert win_rate(wins).win_rate > 50
    assert found.win_rate == pytest.approx(40, abs=1.5)
    assert found.length_effect == pytest.approx(2, abs=0.1)
    assert found.reason == ""


def test_its_standard_error_is_the_spread_over_repetitions() -> None:
    found = [length_controlled_win_rate(*_drawn(0.4, 1.0, 300, seed)) for seed in range(200)]
    rates = [one.win_rate for one in found]
    errors = [one.standard_error for one in found]
    assert np.mean(np.asarray(errors, float)) == pytest.approx(np.std(np.asarray(rates, float), ddof=1), rel=0.15)


def test_without_an_effect_of_length_the_two_rates_agree() -> None:
    # Each length once with a win and once with a loss.
    lengths = [-30, -30, -10, -10, 10, 10, 20, 20]
    found = length_controlled_win_rate([1, 0] * 4, lengths)
    assert found.win_rate == pytest.approx(50)
    assert found.length_effect == pytest.approx(0, abs=1e-6)


def test_draws_are_half_a_win_and_half_a_loss() -> None:
    lengths = [-30, -10, 10, 20]
    doubled = length_controlled_win_rate([0, 0, 1, 0, 0, 1, 1, 1], [length for length in lengths for _ in (0, 1)])
    found = length_controlled_win_rate([0, 0.5, 0.5, 1], lengths)
    assert found.win_rate == pytest.approx(doubled.win_rate)


@pytest.mark.parametrize(
    ("wins", "lengths", "reason"),
    [
        ([0, 0, 1, 1], [-2, -1, 1, 2], "separates all wins from all losses"),
        ([1, 1, 0, 0], [-2, -1, 1, 2], "separates all wins from all losses"),
        # They touch at one length, where there are both: the solution is still at infinity.
        ([0, 0, 1, 1], [-2, 0, 0, 2], "separates all wins from all losses"),
        ([1, 1, 1], [-1, 0, 1], "there is no loss"),
        ([0, 0, 0], [-1, 0, 1], "there is no win"),
        ([1, 0, 1, 0], [5, 5, 5, 5], "fewer than three values"),
        ([1, 0, 1, 0], [5, 6, 7, 8], "every answer is longer than the baseline's"),
        ([1, 0, 1, 0], [-5, -6, -7, -8], "every answer is shorter than the baseline's"),
    ],
)
def test_there_is_no_rate_where_it_would_be_made_up(wins: list[float], lengths: list[float], reason: str) -> None:
    found = length_controlled_win_rate(wins, lengths)
    assert reason in found.reason
    assert found.win_rate is found.standard_error is found.length_effect is None


def test_differences_are_paired() -> None:
    easy = np.array([1.0, 0.0] * 200)
    better = easy.copy()
    better[1:60:2] = 1.0
    found = win_rate_difference(better, easy)
    assert found.mean == pytest.approx(100 * 30 / 400)
    # Were they not, the interval would be as wide as the win rates' own: about 7 points each way.
    assert 2 < found.mean - found.low < 3.5
    with pytest.raises(DataError, match="got 2 and 3"):
        win_rate_difference([1, 0], [1, 0, 0])


def test_the_interval_at_equal_length_matches_the_spread() -> None:
    """Two models of one judge and the same instructions, hard and easy ones for both."""
    differences, widths = [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        chance, lengths, longer = random.random(300), random.normal(0, 300, 300), random.normal(200, 300, 300)
        wins = (chance < expit(-0.4 + np.tanh(lengths / lengths.std()))).astype(float)
        longer_wins = (chance < expit(0.2 + np.tanh(longer / longer.std()))).astype(float)
        found = length_controlled_difference(longer_wins, longer, wins, lengths)
        assert isinstance(found, Interval)
        rates = [length_controlled_win_rate(*one).win_rate for one in ((longer_wins, longer), (wins, lengths))]
        assert found.mean == pytest.approx(np.subtract(*np.asarray(rates, float)))
        differences.append(found.mean)
        widths.append((found.high - found.low) / 2 / 1.96)
    assert np.mean(widths) == pytest.approx(np.std(differences, ddof=1), rel=0.15)
    # True is sigmoid(0.2) - sigmoid(-0.4); the raw rates are further apart.
    assert np.mean(differences) == pytest.approx(100 * (expit(0.2) - expit(-0.4)), abs=1.5)


def test_a_difference_at_equal_length_needs_both_rates() -> None:
    lengths = [-30, -10, 10, 20]
    good, bad = ([0, 0.5, 0.5, 1], lengths), ([1, 1, 1, 1], lengths)
    assert length_controlled_difference(*good, *bad) == "there is no loss"
    assert length_controlled_difference(*bad, *good) == "there is no loss"
    same = length_controlled_difference(*good, *good)
    assert isinstance(same, Interval)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("count", [10, 12, 60])
def test_the_interval_is_corrected_for_two_coefficients(count: int) -> None:
    """Restated: sandwich estimator of both fits together, times n / (n - 2), with Student's quantile."""
    random = np.random.default_rng(count)
    fits, given = [], []
    for _ in range(2):
        lengths = np.append(random.normal(0, 100, count - 2), [-150.0, 150.0])
        wins = np.append(random.choice([0.0, 0.5, 1.0], count - 2), [1.0, 0.0])
        features = np.column_stack([np.ones(count), np.tanh(lengths / lengths.std())])
        theta = np.zeros(2)
        for _ in range(50):  # Newton's method
            chance = 1 / (1 + np.exp(-features @ theta))
            hessian = (features * (chance * (1 - chance))[:, None]).T @ features
            theta += np.linalg.solve(hessian, features.T @ (wins - chance))
        # How each pair moves the intercept, then the rate.
        moved = np.linalg.solve(hessian, (features * (wins - chance)[:, None]).T)[0]
        rate = 1 / (1 + np.exp(-theta[0]))
        fits.append((rate, rate * (1 - rate) * moved))
        given += [wins, lengths]
    found = length_controlled_difference(*given)
    assert isinstance(found, Interval)
    (rate, moved), (other_rate, other_moved) = fits
    variance = ((moved - other_moved) ** 2).sum() * count / (count - 2)
    half = 100 * np.sqrt(variance) * stats.t.ppf(0.975, count - 2)
    assert found.mean == pytest.approx(100 * (rate - other_rate))
    assert found.high - found.mean == pytest.approx(half)
    assert found.mean - found.low == pytest.approx(half)
