"""Lengths of the samples and the padding of their batches, for `preview` and the logs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from lightning_neft.data.batching.order import TrainOrder
from lightning_neft.data.batching.plan import Batching
from lightning_neft.data.tokenization import Task

__all__ = [
    "LengthBin",
    "LengthStatistics",
    "PaddingWaste",
    "length_bins",
    "length_statistics",
    "padding_waste",
    "waste_by_batching",
]


@dataclass(frozen=True)
class PaddingWaste:
    """Tokens and padding of the batches of an epoch.

    Attributes:
        tokens: Tokens of all samples.
        places: Places of all batches, including padding.
        batches: Number of batches.
        rows: Number of rows of all batches.
    """

    tokens: int
    places: int
    batches: int
    rows: int

    @property
    def share(self) -> float:
        """Share of the places that is padding."""
        return 1 - self.tokens / self.places


def padding_waste(lengths: ArrayLike, batching: Batching, batch_size: int, max_length: int, seed: int) -> PaddingWaste:
    """Count tokens and padding of the first epoch on one device, each batch padded to its longest row.

    Args:
        lengths: Tokens of each sample, (samples,) positive integers.
        batching: Layout of the rows.
        batch_size: Rows of a batch.
        max_length: Maximum tokens of a packed row.
        seed: Seed of the order.

    Raises:
        ConfigError: If a number is out of range.
        DataError: If there are no samples, or one is longer than a packed row.

    Example:
        >>> padding_waste([3, 9, 4, 8], "packed", batch_size=2, max_length=12, seed=0)
        PaddingWaste(tokens=24, places=24, batches=1, rows=2)
    """
    sizes = np.asarray(lengths, np.int64)
    order = TrainOrder(
        sizes, np.ones(len(sizes)), batching=batching, batch_size=batch_size, max_length=max_length, seed=seed
    )
    places = 0
    plans = order.plans(epoch=0)
    for plan in plans:
        rows = [int(sizes[list(row)].sum()) for row in plan.rows]
        places += sum(rows) if batching == "flat" else max(rows) * len(rows)
    return PaddingWaste(int(sizes.sum()), places, len(plans), len(order.rows))


@dataclass(frozen=True)
class LengthBin:
    """Number of samples whose length is in a range, including both ends."""

    shortest: int
    longest: int
    count: int


@dataclass(frozen=True)
class LengthStatistics:
    """Lengths of samples in tokens.

    Attributes:
        samples: Number of samples.
        tokens: Tokens of all samples.
        trained: Tokens with a label.
        mean: Mean length.
        median: Median length.
        longest: Maximum length.
        bins: Histogram of the lengths.
    """

    samples: int
    tokens: int
    trained: int
    mean: float
    median: float
    longest: int
    bins: tuple[LengthBin, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return asdict(self)


def length_bins(lengths: ArrayLike, count: int = 10) -> tuple[LengthBin, ...]:
    """Return a histogram of lengths, in at most `count` ranges of equal width.

    Example:
        >>> [(found.shortest, found.longest, found.count) for found in length_bins([1, 2, 2, 9], count=3)]
        [(1, 3, 3), (4, 6, 0), (7, 9, 1)]
    """
    sizes = np.asarray(lengths, np.int64)
    first, last = int(sizes.min()), int(sizes.max())
    width = max(1, -(-(last - first + 1) // count))
    counts = np.bincount((sizes - first) // width)
    return tuple(
        LengthBin(first + width * number, min(first + width * (number + 1) - 1, last), int(found))
        for number, found in enumerate(counts)
    )


def length_statistics(lengths: ArrayLike, trained: ArrayLike) -> LengthStatistics:
    """Return statistics of the lengths of samples.

    Args:
        lengths: Tokens of each sample, (samples,) integers, at least one.
        trained: Tokens with a label of each sample.

    Example:
        >>> found = length_statistics([4, 8], [1, 3])
        >>> found.tokens, found.trained, found.mean
        (12, 4, 6.0)
    """
    sizes = np.asarray(lengths, np.int64)
    return LengthStatistics(
        samples=len(sizes),
        tokens=int(sizes.sum()),
        trained=int(np.asarray(trained, np.int64).sum()),
        mean=float(sizes.mean()),
        median=float(np.median(sizes)),
        longest=int(sizes.max()),
        bins=length_bins(sizes),
    )


def waste_by_batching(
    lengths: ArrayLike, task: Task, batch_size: int, max_length: int, seed: int
) -> dict[Batching, PaddingWaste]:
    """Return the padding of the first epoch for each `Batching` that the task allows."""
    modes: tuple[Batching, ...] = get_args(Batching)
    if task != "causal_lm":
        modes = tuple(mode for mode in modes if mode not in ("packed", "flat"))
    return {mode: padding_waste(lengths, mode, batch_size, max_length, seed) for mode in modes}
