"""How much of an epoch is padding, from lengths alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lightning_neft.data.batching.order import TrainOrder
from lightning_neft.data.batching.plan import Batching

__all__ = ["PaddingWaste", "padding_waste"]


@dataclass(frozen=True)
class PaddingWaste:
    """What an epoch's batches hold.

    Attributes:
        tokens: Tokens of all samples.
        places: Places of all batches, padding included.
        batches: How many batches there are.
        rows: How many rows they have together.
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
        batching: How samples are put together.
        batch_size: Rows of a batch.
        max_length: The most tokens of a packed row.
        seed: Seed of the order.

    Raises:
        ConfigError: If a number is out of its range.
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
