"""The order of the samples: a pure function of (seed, epoch), sharded over the ranks, resumable in mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

__all__ = ["HeldOutOrder", "TrainOrder"]

# Both are DistributedSamplers because Lightning wraps any other sampler as soon as there are several processes, which
# would shard the order twice. Of the base class only its fields, its length and `set_epoch` are used.


class TrainOrder(DistributedSampler[int]):
    """Shuffles anew each epoch, without reading or moving any global random state.

    All ranks get equally many samples: where the count does not divide, the first ones of the order come twice.
    Lightning calls `set_epoch` before each epoch.

    Args:
        data: What is to be ordered; only its length is used.
        seed: Seed of the order.
        rank: Data-parallel rank of this process.
        world_size: Number of data-parallel ranks.
    """

    def __init__(self, data: Sized, seed: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(data, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return _TrainOrderIterator(self)

    def shard(self, epoch: int) -> list[int]:
        """Return the indices of one epoch for this rank."""
        # A pair as seed: with a sum, epoch 1 of seed 0 would be epoch 0 of seed 1.
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))  # type: ignore[arg-type]
        shard: list[int] = np.resize(order, self.total_size)[self.rank :: self.num_replicas].tolist()
        return shard


class _TrainOrderIterator(Iterator[int]):
    """Walks one epoch; its state is the epoch and the position, which a `StatefulDataLoader` saves and restores."""

    def __init__(self, order: TrainOrder) -> None:
        self._order = order
        # Drawn at the first step, not here: Lightning makes the iterator before it says which epoch it is for.
        self._shard: list[int] | None = None
        self._epoch = order.epoch
        self._position = 0

    def __next__(self) -> int:
        if self._shard is None:
            self._epoch = self._order.epoch
            self._shard = self._order.shard(self._epoch)
        if self._position == len(self._shard):
            raise StopIteration
        self._position += 1
        return self._shard[self._position - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch, self._position = state["epoch"], state["position"]
        if self._position == len(self._order):
            # Saved after the last batch of an epoch. Lightning goes on with this very iterator in the next epoch: were
            # it at its end, that epoch would pass without a batch.
            self._epoch, self._position = self._epoch + 1, 0
        # Lightning sets the epoch only later, when workers may already have asked a new iterator for indices.
        self._order.set_epoch(self._epoch)
        self._shard = self._order.shard(self._epoch)


class HeldOutOrder(DistributedSampler[int]):
    """Goes through the samples in order, each exactly once over all ranks.

    All ranks get equally many, which sharded strategies need; a rank without a sample left gets the index `len(data)`,
    which stands for a sample without labels.

    Args:
        data: What is to be ordered; only its length is used.
        rank: Data-parallel rank of this process.
        world_size: Number of data-parallel ranks.
    """

    def __init__(self, data: Sized, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(data, num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)  # type: ignore[arg-type]
        return (min(index, count) for index in range(self.rank, self.total_size, self.num_replicas))
