"""Best-fit packing: every document once, no row too long, as few rows as the rule promises, and soon."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_neft.data.batching.rows import pack
from lightning_neft.errors import DataError

MAX_LENGTH = 20
LENGTHS = st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=60)


@given(LENGTHS, st.integers(0, 3))
def test_every_document_is_in_one_row_and_no_row_is_too_long(lengths: list[int], seed: int) -> None:
    packing = pack(lengths, MAX_LENGTH, seed)
    assert sorted(index for row in packing.rows for index in row) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in row) for row in packing.rows]
    assert max(sums) <= MAX_LENGTH
    assert packing.fill == pytest.approx(sum(sums) / (MAX_LENGTH * len(sums)))


def best_fit_decreasing(lengths: list[int], max_length: int) -> list[list[int]]:
    """The rule word for word, looking at every row for every document."""
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in rows if sum(row) + length <= max_length]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            rows.append([length])
    return rows


@given(LENGTHS, st.integers(0, 3))
def test_rows_are_those_of_best_fit_decreasing(lengths: list[int], seed: int) -> None:
    packed = [[lengths[index] for index in row] for row in pack(lengths, MAX_LENGTH, seed).rows]
    # Among rows with the same space left the rule leaves the choice open, so their later documents may be swapped.
    expected = best_fit_decreasing(lengths, MAX_LENGTH)
    assert sorted(map(sum, packed)) == sorted(map(sum, expected))


@given(st.lists(st.lists(st.integers(1, MAX_LENGTH - 1), max_size=6, unique=True), min_size=1, max_size=20))
def test_at_most_eleven_ninths_of_the_fewest_rows(cuts: list[list[int]]) -> None:
    # Full rows cut into pieces: that many rows are needed, and enough.
    lengths = [int(n) for row in cuts for n in np.diff([0, *sorted(row), MAX_LENGTH])]
    assert len(pack(lengths, MAX_LENGTH, 0).rows) <= 11 / 9 * len(cuts) + 6 / 9


def test_a_function_of_its_arguments_alone() -> None:
    lengths = [3, 3, 3, 3, 7, 7, 7, 7]
    np.random.seed(1)
    first = pack(lengths, 10, 5)
    assert pack(lengths, 10, 5) == first
    assert len({pack(lengths, 10, seed).rows for seed in range(8)}) > 1
    assert {len(pack(lengths, 10, seed).rows) for seed in range(8)} == {4}


def test_less_waste_than_first_fit_and_fast_for_many_samples() -> None:
    # Long-tailed, as texts are.
    lengths = np.clip(np.random.default_rng(0).lognormal(5.5, 0.8, 100_000), 8, 2048).astype(int)
    start = time.process_time()
    packing = pack(lengths, 2048, 0)
    assert time.process_time() - start < 5
    assert packing.fill > 0.999
    some = lengths[:3000].tolist()
    free: list[int] = []
    for length in some:
        at = next((i for i, space in enumerate(free) if space >= length), len(free))
        free[at:] = free[at:] or [2048]
        free[at] -= length
    assert math.ceil(sum(some) / 2048) <= len(pack(some, 2048, 0).rows) < len(free)


def test_a_document_longer_than_a_row_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^sample 1 has 9 tokens, more than the 8 of a packed row"):
        pack([3, 9], 8, 0)


def test_no_documents_no_rows() -> None:
    assert pack([], 8, 0).rows == ()
