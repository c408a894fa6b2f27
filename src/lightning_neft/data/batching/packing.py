"""Best-fit packing: documents into as few rows of at most `max_length` tokens as that rule finds."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lightning_neft.errors import DataError

__all__ = ["Packing", "pack"]


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
        raise DataError(
            f"sample {at} has {sizes[at]} tokens, more than the {max_length} of a packed row: cut samples to max_length"
        )
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
