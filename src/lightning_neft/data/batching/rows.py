"""Which samples share a batch or a row: grouped by length, or packed by best fit."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_neft.errors import DataError

__all__ = ["MEGA_BATCH", "NOTHING", "Packing", "deal", "group_by_length", "pack"]


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


@dataclass(frozen=True)
class Packing:
    """Rows of documents.

    Attributes:
        rows: Sample indices of each row; every sample is in exactly one.
        fill: Share of the rows' `max_length` places that tokens take.
    """

    rows: tuple[tuple[int, ...], ...]
    fill: float


def pack(lengths: ArrayLike, max_length: int, seed: int) -> Packing:
    """Pack by best fit decreasing: longest first, each into the row that it leaves the least space in.

    The result is a function of the arguments alone, the same in every epoch, so that the number of batches is too. It
    needs at most 11/9 of the fewest possible rows (and 6/9 of a row), usually within a few of them.

    Args:
        lengths: Tokens of each document, (documents,) positive integers.
        max_length: The most tokens of a row.
        seed: Decides which of the documents of one length share a row.

    Raises:
        DataError: If a document is longer than a row.

    Example:
        >>> pack([5, 2, 3, 4], 7, seed=0)
        Packing(rows=((0, 1), (3, 2)), fill=1.0)
    """
    sizes = np.asarray(lengths, np.int64)
    if sizes.size and sizes.max() > max_length:
        at = int(sizes.argmax())
        raise DataError(f"sample {at} has {sizes[at]} tokens, more than the {max_length} of a packed row: truncate it")
    shuffled = np.random.default_rng(seed).permutation(sizes.size)
    longest_first = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    rows: list[list[int]] = []
    # Rows by the space left in them, and the spaces that occur, in order: there are never more than `max_length`.
    by_space: dict[int, list[int]] = {}
    spaces: list[int] = []
    for index, size in zip(longest_first.tolist(), sizes[longest_first].tolist(), strict=True):
        at = bisect_left(spaces, size)
        if at == len(spaces):
            row, space = len(rows), max_length
            rows.append([])
        else:
            space = spaces[at]
            row = by_space[space].pop()
            if not by_space[space]:
                del spaces[at]
        rows[row].append(index)
        left = space - size
        with_left = by_space.setdefault(left, [])
        if not with_left:
            insort(spaces, left)
        with_left.append(row)
    fill = float(sizes.sum()) / (len(rows) * max_length) if rows else 1.0
    return Packing(tuple(map(tuple, rows)), fill)
