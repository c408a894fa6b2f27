"""Rows of similar length together: still every row once, still random, and less padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_neft.data.batching.rows import MEGA_BATCH, NOTHING, deal, group_by_length


def grouped(lengths: np.ndarray, size: int, seed: int, mega_batch: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return group_by_length(rng.permutation(len(lengths)), lengths, size, rng, mega_batch)


@given(st.lists(st.integers(1, 30), max_size=90), st.integers(1, 9), st.integers(0, 5))
def test_every_row_once_and_a_function_of_the_seed(lengths: list[int], size: int, seed: int) -> None:
    order = grouped(np.array(lengths, int), size, seed)
    assert sorted(order) == list(range(len(lengths)))
    assert order.tolist() == grouped(np.array(lengths, int), size, seed).tolist()


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4))
def test_dealing_keeps_the_order_and_shares_the_rest_evenly(count: int, batch_size: int, world_size: int) -> None:
    dealt = deal(np.arange(count), batch_size, world_size)
    assert dealt[dealt != NOTHING].tolist() == list(range(count))
    assert dealt.shape[1:] == (world_size, batch_size)
    rows = (dealt != NOTHING).sum(-1)
    assert (rows[:-1] == batch_size).all()
    assert rows[-1].max() - rows[-1].min() <= 1
    assert rows[-1].max() > 0


def test_in_one_group_batches_follow_the_sorted_lengths() -> None:
    lengths = np.random.default_rng(1).permutation(48)
    order = grouped(lengths, 6, 0, mega_batch=8)
    batches = {tuple(sorted(lengths[rows])) for rows in order.reshape(8, 6)}
    assert batches == {tuple(range(start, start + 6)) for start in range(0, 48, 6)}
    starts = lengths[order].reshape(8, 6).min(1).tolist()
    assert starts != sorted(starts, reverse=True)


def test_lengths_are_looked_for_within_groups_of_that_many_steps() -> None:
    steps, size = 8 * MEGA_BATCH, 3
    lengths = np.arange(steps * size)
    first_draw = np.random.default_rng(0).permutation(steps * size)
    order = grouped(lengths, size, 0)
    of_group = np.empty(steps * size, int)
    of_group[first_draw] = np.arange(steps * size) // (MEGA_BATCH * size)
    for rows in order.reshape(steps, size):
        assert len(set(of_group[rows])) == 1
    widths = lengths[order].reshape(steps, size)
    assert (widths.max(1) - widths.min(1)).mean() < 0.05 * len(lengths)


def test_the_rows_of_the_small_last_step_are_of_any_length() -> None:
    lengths = np.arange(50)
    last = [lengths[grouped(lengths, 8, seed, mega_batch=9)[-2:]].max() for seed in range(40)]
    assert min(last) < 15
    assert max(last) > 35


@pytest.mark.parametrize("count", [1, 2, 7])
def test_fewer_rows_than_a_step_has(count: int) -> None:
    assert sorted(grouped(np.arange(count), 8, 0)) == list(range(count))
