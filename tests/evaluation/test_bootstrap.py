"""Intervals: known values, coverage where the truth is known, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_neft.errors import DataError
from lightning_neft.evaluation.bootstrap import Interval, paired_interval, verdict


def _coverage(seeds: int, samples: int, spread: tuple[float, float, float], runs: int = 200) -> float:
    """Share of the intervals that hold 0, the true mean of seed effect + sample effect + noise."""
    random = np.random.default_rng(7)
    hits = 0
    for run in range(runs):
        effects = (random.normal(size=shape) for shape in ((seeds, 1), (1, samples), (seeds, samples)))
        values = sum(width * effect for width, effect in zip(spread, effects, strict=True))
        hits += paired_interval(values, draws=500, seed=run).includes_zero
    return hits / runs


@pytest.mark.parametrize(
    ("seeds", "samples", "spread"),
    [
        (1, 100, (0.0, 1.0, 0.0)),
        (5, 50, (0.1, 1.0, 0.5)),
        # Few seeds that differ: plain percentiles would hold the truth in three quarters of the studies at most.
        (3, 60, (1.0, 0.2, 0.5)),
        # The same hard samples in every row: drawing samples anew for each seed would be too narrow here.
        (8, 40, (0.0, 1.0, 0.1)),
    ],
)
def test_the_interval_holds_the_truth_about_as_often_as_it_says(
    seeds: int, samples: int, spread: tuple[float, float, float]
) -> None:
    assert 0.9 <= _coverage(seeds, samples, spread) <= 0.995


def test_many_samples_of_one_seed_give_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, size=2000)
    found = paired_interval(values)
    error = values.std(ddof=1) / np.sqrt(2000)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_two_seeds_that_disagree_are_no_evidence() -> None:
    # Student's quantile with one degree of freedom: 12.7 standard errors.
    found = paired_interval(np.array([[1.0] * 50, [2.0] * 50]))
    assert found.mean == 1.5
    assert found.includes_zero


def test_a_lower_level_is_narrower_and_a_seed_reproducible() -> None:
    values = np.random.default_rng(0).normal(size=(3, 20))
    wide, narrow = paired_interval(values, level=0.95), paired_interval(values, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert paired_interval(values) == wide
    assert paired_interval(values, seed=1) != wide


def test_equal_differences_have_no_width() -> None:
    assert paired_interval([0.25] * 4) == Interval(0.25, 0.25, 0.25, 0.95)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan")], [[[1.0, 2.0]]]])
def test_what_has_no_interval_is_refused(values: list[object]) -> None:
    with pytest.raises(DataError, match="an interval needs"):
        paired_interval(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("interval", "lower_is_better", "said"),
    [
        ((-0.2, -0.3, -0.1), True, "better: lower by 0.2 (95 % interval 0.1 to 0.3)"),
        ((-0.2, -0.3, -0.1), False, "lower by 0.2 (95 % interval 0.1 to 0.3)"),
        ((0.2, 0.1, 0.3), True, "worse: higher by 0.2 (95 % interval 0.1 to 0.3)"),
        ((0.2, 0.1, 0.3), False, "higher by 0.2 (95 % interval 0.1 to 0.3)"),
        ((0.2, 0.0, 0.4), False, "no evidence of a difference (0.2, 95 % interval 0 to 0.4)"),
    ],
)
def test_the_verdict_in_words(interval: tuple[float, float, float], lower_is_better: bool, said: str) -> None:
    assert verdict(Interval(*interval, level=0.95), lower_is_better) == said


def test_the_interval_is_as_wide_as_the_unbiased_spread_says() -> None:
    """Draws with replacement from n values have (n - 1) / n of the unbiased variance; at two seeds that is half."""
    # Rows differ from each other, columns not at all: everything is in the two seeds' means, 0 and 2.
    found = paired_interval(np.repeat([[0.0], [2.0]], 4000, axis=1), draws=1000)
    # Half of the draws are of one seed twice, so the percentiles are the two means themselves.
    factor = stats.t.ppf(0.975, 1) / stats.norm.ppf(0.975)
    assert found.high - found.mean == pytest.approx(factor * np.sqrt(2) * 1.0)
    assert found.mean - found.low == pytest.approx(factor * np.sqrt(2) * 1.0)


@pytest.mark.parametrize("count", [3, 5, 40])
def test_what_draws_of_few_samples_lack_is_put_back(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    # An independent statement of the same: percentiles of resampled means, stretched to Student's interval.
    random = np.random.default_rng(0)
    random.multinomial(1, [1.0], size=10_000)  # the draw of the only seed comes before those of the samples
    means = values[random.integers(count, size=(10_000, count))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    stretch = stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975) * np.sqrt(count / (count - 1))
    found = paired_interval(values)
    assert found.high == pytest.approx(values.mean() + stretch * (high - values.mean()))
    assert found.low == pytest.approx(values.mean() + stretch * (low - values.mean()))
