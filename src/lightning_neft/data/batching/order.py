"""The order of the batches: a pure function of (seed, epoch), divided among the ranks, resumable mid-epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import DistributedSampler, SequentialSampler
from typing_extensions import override

from lightning_neft.data.batching.plan import Batching, BatchPlan
from lightning_neft.data.batching.rows import NOTHING, deal, group_by_length, pack
from lightning_neft.errors import ConfigError, DataError

__all__ = ["HeldOutOrder", "RepeatedOrder", "TrainOrder"]

# The orders are DistributedSamplers because Lightning wraps any other sampler when there are several processes, which
# would shard the order twice. Only the fields and `set_epoch` of the base class are used. They are samplers of a loader
# with batch_size=None, not batch samplers, for the same reason: Lightning looks at `loader.sampler` alone.


class TrainOrder(DistributedSampler[BatchPlan]):
    """Yields the plans of this rank's micro-batches, in a new order each epoch, without global random state.

    Every sample is in exactly one batch of an epoch with a share in the loss. All ranks get the same number of batches,
    each with a token to train on. All batches are full except in the last step, whose rows are divided evenly among the
    ranks; a rank without a row gets another rank's with a share of 0.

    Rows are single samples or packed (`packed` and `flat`); packed rows are the same in every epoch. Lightning calls
    `set_epoch` before each epoch. For a `StatefulDataLoader` with `batch_size=None`.

    Args:
        lengths: Tokens of each sample, (samples,) integers.
        weights: Weight of each sample in the loss (see `trained_weights`), (samples,).
        batching: `random`; `length_grouped` for batches of similar length; `packed` or `flat` for rows of several
            samples.
        batch_size: Rows of a micro-batch.
        max_length: Maximum tokens of a packed row.
        seed: Seed of the order.
        rank: Data-parallel rank of this process.
        world_size: Number of data-parallel ranks.
        accumulate: Micro-batches of an optimiser step, Lightning's accumulate_grad_batches.
        limit_batches: Number of the epoch's micro-batches that are used, or their share if a float: Lightning's
            limit_train_batches. Lightning makes an optimiser step at the last one, even if the step is incomplete.

    Attributes:
        rows: Sample indices of each row.
        used: Number of micro-batches that an epoch yields.
        fingerprint: Digest of everything that determines the order except the epoch and the rank. Only an order with
            the same fingerprint loads a state.

    Raises:
        ConfigError: If a number is out of range.
        DataError: If there are no samples, or one has no label to train on, or is longer than a packed row.

    Example:
        >>> order = TrainOrder([3, 9, 4, 8], [1, 6, 1, 2], batching="packed", batch_size=1, max_length=12)
        >>> [(plan.rows, plan.step_share) for plan in order]
        [(((1, 0),), 1.0), (((3, 2),), 1.0)]
    """

    def __init__(
        self,
        lengths: ArrayLike,
        weights: ArrayLike,
        *,
        batching: Batching = "length_grouped",
        batch_size: int = 16,
        max_length: int = 512,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        limit_batches: int | float = 1.0,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_length", max_length), ("accumulate", accumulate)):
            if value < 1:
                raise ConfigError(f"{name} must be 1 or more, got {value!r}")
        self.lengths, self.weights = np.asarray(lengths, np.int64), np.asarray(weights, np.float64)
        if not len(self.lengths):
            raise DataError("there are no samples to train on")
        if len(empty := np.flatnonzero(~(self.weights > 0))):
            raise DataError(
                f"{len(empty)} of {len(self.lengths)} samples have no label to train on, the first of them is sample "
                f"{empty[0]}; drop them"
            )
        super().__init__(self.lengths, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.batching, self.batch_size, self.max_length = batching, batch_size, max_length
        self.accumulate = accumulate
        self.rows: tuple[tuple[int, ...], ...] = tuple((index,) for index in range(len(self.lengths)))
        if batching in ("packed", "flat"):
            self.rows = pack(self.lengths, max_length, seed).rows
        self._row_weights = _sums(self.weights, self.rows)
        self._row_lengths = _sums(self.lengths, self.rows)
        self._steps = steps = -(-len(self.rows) // (batch_size * world_size))
        # As Lightning computes it.
        self.used = min(steps, limit_batches) if isinstance(limit_batches, int) else int(steps * limit_batches)
        options = (batching, batch_size, max_length, seed, world_size)
        digest = hashlib.sha256(repr(options).encode() + self.lengths.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        """Return the micro-batches of a whole epoch, to which Lightning applies limit_train_batches."""
        return self._steps

    def __iter__(self) -> Iterator[BatchPlan]:
        return _TrainOrderIterator(self)

    def plans(self, epoch: int) -> list[BatchPlan]:
        """Return this rank's used batches of one epoch, in their order."""
        dealt = self._dealt(epoch)[: self.used]
        weights = np.where(dealt != NOTHING, self._row_weights[dealt], 0.0).sum(-1)
        starts = np.arange(0, self.used, self.accumulate)
        totals = np.add.reduceat(weights.sum(-1), starts) if self.used else weights.sum(-1)
        plans = []
        for step, ranks in enumerate(dealt):
            mine = ranks[self.rank if ranks[self.rank, 0] != NOTHING else 0]
            rows = tuple(self.rows[row] for row in mine.tolist() if row != NOTHING)
            plans.append(BatchPlan(rows, float(weights[step, self.rank] / totals[step // self.accumulate])))
        return plans

    def _dealt(self, epoch: int) -> NDArray[np.int64]:
        """Row numbers of all ranks' batches, (steps, ranks, batch_size)."""
        # A pair as seed: with a sum, epoch 1 of seed 0 would be epoch 0 of seed 1.
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.rows))
        if self.batching == "length_grouped":
            order = group_by_length(order, self._row_lengths, self.batch_size * self.num_replicas, rng)
        return deal(order, self.batch_size, self.num_replicas)


class RepeatedOrder(TrainOrder, SequentialSampler):  # type: ignore[misc]
    """The batches of the first epoch in every epoch, for Lightning's overfit_batches; see `TrainOrder`.

    Named a SequentialSampler because Lightning replaces any other sampler with its own, whose indices are not plans.
    """

    @override
    def plans(self, epoch: int) -> list[BatchPlan]:
        return super().plans(0)


class _TrainOrderIterator(Iterator[BatchPlan]):
    """Iterates over one epoch; a `StatefulDataLoader` saves and restores its epoch and position."""

    def __init__(self, order: TrainOrder) -> None:
        self._order = order
        # Drawn at the first step, not here: Lightning creates the iterator before it sets the epoch.
        self._plans: list[BatchPlan] | None = None
        self._epoch = order.epoch
        self._position = 0

    def __next__(self) -> BatchPlan:
        if self._plans is None:
            self._epoch = self._order.epoch
            self._plans = self._order.plans(self._epoch)
        if self._position == len(self._plans):
            raise StopIteration
        self._position += 1
        return self._plans[self._position - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "position": self._position, "fingerprint": self._order.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self._order.fingerprint:
            raise DataError(
                "the checkpoint has another order of the training data, so its run cannot be resumed; give the same "
                "data.* options and devices as in its config.yaml, or the path of another checkpoint"
            )
        self._epoch, self._position = state["epoch"], state["position"]
        if self._position >= self._order.used:
            # Saved after the last batch of an epoch. Lightning uses this same iterator for the next epoch: at its end,
            # that epoch would have no batch.
            self._epoch, self._position = self._epoch + 1, 0
        # Lightning sets the epoch later, when workers may already have taken indices from a new iterator.
        self._order.set_epoch(self._epoch)
        self._plans = self._order.plans(self._epoch)


class HeldOutOrder(DistributedSampler[BatchPlan], SequentialSampler):
    """Yields the plans of this rank's held-out batches: each sample exactly once over all ranks.

    Batches have rows of similar length, to save padding, and a fixed random order, so that the first ones
    (limit_val_batches, the sanity check) are not all of the longest. All ranks get the same number of batches, which
    sharded strategies need; a rank without a sample gets the index `len(lengths)`, which stands for a sample without
    labels. Named a SequentialSampler, as `RepeatedOrder` is.

    Args:
        lengths: Tokens of each sample, (samples,) integers.
        batch_size: Samples of a batch.
        rank: Data-parallel rank of this process.
        world_size: Number of data-parallel ranks.

    Raises:
        ConfigError: If batch_size is less than 1.
        DataError: If there are no samples.

    Example:
        >>> [plan.rows for plan in HeldOutOrder([3, 9, 8], batch_size=2)]
        [((1,), (2,)), ((0,),)]
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {batch_size!r}")
        sizes = np.asarray(lengths, np.int64)
        if not len(sizes):
            raise DataError("there are no held-out samples")
        super().__init__(sizes, num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]
        order = group_by_length(
            np.arange(len(sizes)), sizes, batch_size * world_size, np.random.default_rng(0), mega_batch=len(sizes)
        )
        mine = deal(order, batch_size, world_size)[:, rank]
        # A rank without a row gets the sample without labels.
        mine[:, 0] = np.where(mine[:, 0] == NOTHING, len(sizes), mine[:, 0])
        self._plans = [BatchPlan(tuple((row,) for row in rows if row != NOTHING)) for rows in mine.tolist()]

    def __len__(self) -> int:
        return len(self._plans)

    def __iter__(self) -> Iterator[BatchPlan]:  # type: ignore[override]
        return iter(self._plans)


def _sums(values: NDArray[Any], rows: tuple[tuple[int, ...], ...]) -> NDArray[Any]:
    """Sum the values of each row's samples."""
    indices = np.fromiter(chain.from_iterable(rows), np.int64)
    starts = np.cumsum([0, *(len(row) for row in rows[:-1])])
    return np.add.reduceat(values[indices], starts)
