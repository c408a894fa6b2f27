"""Samples of similar length in a batch, and samples packed into a row by best fit."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_neft.errors import DataError

__all__ = ["MEGA_BATCH", "NOTHING", "Packing", "deal", "group_by_length", "pack"]


MEGA_BATCH = 50
"""Steps whose rows are sorted by length together, as in transformers: few enough that the order stays random."""

NOTHING = -1
"""Marks a place of a batch without a row."""


def deal(order: NDArray[np.int64], batch_size: int, world_size: int) -> NDArray[np.int64]:
    """Divide the rows in their order, so that the batches of all ranks in one step are neighbours in it.

    All batches are full except in the last step, whose rows are divided evenly among the ranks.

    Args:
        order: Row numbers, (rows,).
        batch_size: Rows of one rank in one step.
        world_size: Ranks.

    Returns:
        int64 (steps, ranks, batch_size), `NOTHING` where the last step lacks a row.

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
    """Rearrange a random order so that every `size` consecutive rows have similar lengths.

    The order is cut into groups of at most `mega_batch` steps, each group is sorted by length and cut into steps, and
    all full steps are shuffled. The rows that do not fill a step come last.

    Args:
        order: Row numbers in random order, (rows,).
        lengths: Tokens of each row, by row number.
        size: Rows of a step, over all ranks.
        rng: Random generator.
        mega_batch: Steps in a group; by default the smaller of `MEGA_BATCH` and half of all steps. Transformers takes a
            quarter, which pads a few hundred samples about twice as much.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> group_by_length(rng.permutation(6), np.array([9, 1, 2, 8, 1, 9]), 2, rng, mega_batch=3).tolist()
        [5, 0, 3, 2, 4, 1]
    """
    if mega_batch is None:
        mega_batch = max(1, min(MEGA_BATCH, math.ceil(len(order) / size) // 2))
    group = size * mega_batch
    full, rest = [], order[:0]
    for start in range(0, len(order), group):
        rows = order[start : start + group]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        if over := len(rows) % size:
            # From a random place, so that the small last step does not always have the shortest rows.
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
        fill: Share of the places of all rows that hold tokens.
    """

    rows: tuple[tuple[int, ...], ...]
    fill: float


def pack(lengths: ArrayLike, max_length: int, seed: int) -> Packing:
    """Pack by best fit decreasing: longest first, each into the row where it leaves the least space.

    The result depends on the arguments alone, so every epoch has the same number of batches. It needs at most 11/9 of
    the minimum number of rows, plus 6/9 of a row; usually only a few rows more than the minimum.

    Args:
        lengths: Tokens of each document, (documents,) positive integers.
        max_length: Maximum tokens of a row.
        seed: Decides which documents of the same length share a row.

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
    # Rows by the space left in them, and these spaces in order: at most `max_length` different ones.
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
