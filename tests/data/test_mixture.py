"""Mixing sources: which samples an epoch has, against `datasets` itself, and the view of their tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset, interleave_datasets

from lightning_neft.data.mixture import Mixing
from lightning_neft.errors import ConfigError, DataError

STRATEGIES = ["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]


def mixing(
    weights=(None, None, None), samples=(None, None, None), strategy=None, stopping=None, seed: int = 0
) -> Mixing:
    return Mixing.of(["a", "b", "c"], weights, samples, strategy, stopping, seed)


def owners(drawn: np.ndarray, sizes: list[int]) -> list[int]:
    return (np.searchsorted(np.cumsum(sizes), drawn, side="right")).tolist()


@pytest.mark.parametrize("stopping", STRATEGIES)
@pytest.mark.parametrize("weights", [(None, None, None), (6, 3, 1)])
def test_an_epoch_is_that_of_interleave_datasets(stopping: str, weights: tuple) -> None:
    sizes = [40, 25, 60]
    drawn = mixing(weights, strategy="interleave", stopping=stopping, seed=7).drawn(sizes)
    tables = [Dataset.from_dict({"source": [number] * size}) for number, size in enumerate(sizes)]
    shares = None if weights[0] is None else [0.6, 0.3, 0.1]
    expected = interleave_datasets(tables, shares, seed=7, stopping_strategy=stopping)["source"][:]
    assert owners(drawn, sizes) == list(expected)
    counts = Counter(drawn.tolist())
    if stopping == "all_exhausted":
        assert set(counts) == set(range(sum(sizes)))  # each at least once
    elif stopping == "all_exhausted_without_replacement":
        assert sorted(drawn.tolist()) == list(range(sum(sizes)))
    else:
        assert set(counts.values()) == {1}


def test_the_default_follows_from_the_weights() -> None:
    assert (mixing().strategy, mixing((1, 1, 1)).strategy) == ("concatenate", "interleave")
    assert mixing((1, 1, 1)).stopping == "first_exhausted"


def test_concatenated_sources_have_each_sample_once() -> None:
    drawn = mixing(seed=3).drawn([4, 2, 3])
    assert owners(drawn, [4, 2, 3]) == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert sorted(drawn.tolist()) == list(range(9))


def test_a_number_of_samples_is_drawn_with_the_seed() -> None:
    one, same, other = (mixing(samples=(5, None, 2), seed=seed).drawn([50, 3, 50]) for seed in (1, 1, 2))
    assert owners(one, [50, 3, 50]) == [0] * 5 + [1] * 3 + [2] * 2
    assert one.tolist() == same.tolist() != other.tolist()
    assert len(set(one.tolist())) == 10


def test_a_part_of_a_source_is_not_its_beginning() -> None:
    drawn = mixing((1, 1, 1)).drawn([100, 10, 10])
    first = [sample for sample in drawn.tolist() if sample < 100]
    assert first != sorted(first)
    assert max(first) >= 50


def test_more_samples_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match=r"samples=4 of b is more than its 3 training samples; give fewer"):
        mixing(samples=(None, 4, None)).drawn([9, 3, 9])


def test_an_older_datasets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(*args: object, **options: object) -> None:
        raise ValueError("all_exhausted_without_replacement is not supported. Please enter a valid stopping_strategy.")

    monkeypatch.setattr("datasets.interleave_datasets", older)
    with pytest.raises(ConfigError, match=r"all_exhausted_without_replacement is not known to datasets \d.*; install"):
        mixing((1, 1, 1), stopping="all_exhausted_without_replacement").drawn([3, 3, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": (1, None, 2)}, r"b has no weight, but others have; give each a weight, or none"),
        ({"weights": (1, 1, 1), "strategy": "concatenate"}, r"so weights have no effect; omit them"),
        ({"stopping": "all_exhausted"}, r"stopping_strategy=all_exhausted is for data.mix_strategy=interleave"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mixing(**options)
