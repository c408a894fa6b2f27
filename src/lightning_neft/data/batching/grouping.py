"""Rows dealt out to steps and ranks, in random order or with rows of similar length together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEGA_BATCH", "NOTHING", "deal", "group_by_length"]

MEGA_BATCH = 50
"""Steps among whose rows similar lengths are looked for, as in transformers: enough to find them, few enough that the
order stays random."""

NOTHING = -1
"""Stands where a batch has no row."""


def deal(order: NDArray[np.int64], batch_size: int, world_size: int) -> NDArray[np.int64]:
    """Deal the rows out in their order, so that each step's batches of all ranks are next to each other in it.

    All batches are full but those of the last step, whose rows the ranks share evenly.

    Args:
        order: Row numbers, (rows,).
        batch_size: Rows of one rank in one step.
        world_size: Ranks.

    Returns:
        int64 (steps, ranks, batch_size), `NOTHING` where the last step has no row.

    Example:
        >>> deal(np.arange(7), batch_size=2, world_size=2).tolist()
        [[[0, 1], [2, 3]], [[4, 5], [6, -1]]]
    """
    size = batch_size * world_size
    whole = len(order) // size
    dealt = np.full((math.ceil(len(order) / size), world_size, batch_size), NOTHING, np.int64)
    dealt[:whole] = order[: whole * size].reshape(whole, world_size, batch_size)
    if whole < len(dealt):
        for rank, rows in enumerate(np.array_split(order[whole * size :], world_size)):
            dealt[whole, rank, : len(rows)] = rows
    return dealt


def group_by_length(
    order: NDArray[np.int64],
    lengths: NDArray[np.int64],
    size: int,
    rng: np.random.Generator,
    mega_batch: int | None = None,
) -> NDArray[np.int64]:
    """Rearrange a random order so that each run of `size` rows has similar lengths.

    The order is cut into groups of at most `mega_batch` steps, each group is sorted by length and cut into steps, and
    all full steps are shuffled. The rows that do not fill a step come last.

    Args:
        order: Row numbers in random order, (rows,).
        lengths: Tokens of each row, by row number.
        size: Rows of a step, over all ranks.
        rng: Source of what is random in it.
        mega_batch: Steps in a group; by default `MEGA_BATCH`, or a quarter of all steps if that is less.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> group_by_length(rng.permutation(6), np.array([9, 1, 2, 8, 1, 9]), 2, rng, mega_batch=3).tolist()
        [5, 0, 3, 2, 4, 1]
    """
    if mega_batch is None:
        mega_batch = max(1, min(MEGA_BATCH, math.ceil(len(order) / size) // 4))
    group = size * mega_batch
    full, rest = [], order[:0]
    for start in range(0, len(order), group):
        rows = order[start : start + group]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        if over := len(rows) % size:
            # From anywhere among the sorted ones: the shortest rows should not always share the small last step.
            at = size * int(rng.integers(len(rows) // size + 1))
            rest = rows[at : at + over]
            rows = np.delete(rows, np.s_[at : at + over])
        full.append(rows.reshape(-1, size))
    batches = np.concatenate(full) if full else np.empty((0, size), np.int64)
    return np.concatenate([batches[rng.permutation(len(batches))].ravel(), rest])
