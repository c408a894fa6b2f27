"""Streamed training data: options, order, and a loader that resumes exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.order import TrainOrder
from lightning_neft.data.batching.plan import Batching, PlannedBatch, PlannedSamples, trained_weights
from lightning_neft.data.resumed_epoch import leave_finished_epoch
from lightning_neft.data.sample_stream import SampleStream, StreamedSample, token_counts
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import ConfigError, DataError

__all__ = ["Position", "StreamedBatches", "StreamedLoader", "check_options", "micro_batch_limit"]


def check_options(task: Task, batching: Batching, num_workers: int, val_size: int | float) -> None:
    """Refuse data options that streaming does not support.

    Raises:
        ConfigError: At the first one.
    """
    if task == "sequence_classification":
        raise ConfigError("data.streaming: the classes are unknown until all data are read; omit data.streaming")
    if batching not in ("random", "length_grouped"):
        raise ConfigError(f"data.streaming needs data.batching random or length_grouped, got {batching}")
    if num_workers > 1:
        raise ConfigError(
            f"data.streaming reads the source in one process, so data.num_workers must be 0 or 1, got {num_workers}"
        )
    if val_size and not isinstance(val_size, int):
        raise ConfigError(
            f"data.streaming: data.val_size={val_size!r} is a share of an unknown number of records; give a count (the "
            "validation set is the first records), 0 for none, or data.val_split"
        )


def micro_batch_limit(limit: int | float) -> int | None:
    """Return the maximum micro-batches of an epoch under Lightning's limit_train_batches, None for all.

    Raises:
        ConfigError: If it is a share.

    Example:
        >>> micro_batch_limit(7), micro_batch_limit(1.0)
        (7, None)
    """
    if isinstance(limit, int):
        return limit
    if limit not in (0.0, 1.0):
        raise ConfigError(
            f"data.streaming: trainer.limit_train_batches={limit!r} is a share of an unknown number of batches; give a "
            "count"
        )
    return None


# Minimum samples of a block, which is shuffled and grouped by length.
_BLOCK = 1000


@dataclass(frozen=True)
class Position:
    """Position of a run in a stream, between two micro-batches.

    Attributes:
        epoch: Number of the epoch.
        block: Number of the block in the epoch.
        record: Number of the record of the block's first sample.
        piece: Samples of that record that belong to the previous block.
        batch: Micro-batches of the block that have been used.
    """

    epoch: int = 0
    block: int = 0
    record: int = 0
    piece: int = 0
    batch: int = 0


class StreamedBatches(IterableDataset[tuple[PlannedBatch, Position]]):
    """Yields this rank's micro-batches of one epoch from `start`, each with the position after it.

    A block is the next samples with a token to train on, enough for whole optimiser steps of all ranks; only the last
    block of an epoch may have fewer. Each block is planned like an epoch of `TrainOrder`, in an order that is a
    function of (seed, epoch, block). Every rank reads and encodes the whole stream and takes its own rows, so all ranks
    know the trained weight of each optimiser step.

    Args:
        stream: The samples.
        task: Task of the model.
        prompt_loss: Weight of a prompt token in the loss.
        batching: `random` or `length_grouped`.
        batch_size: Rows of a micro-batch.
        seed: Seed of the order.
        rank: Data-parallel rank of this process.
        world_size: Number of data-parallel ranks.
        accumulate: Micro-batches of an optimiser step.
        limit: Maximum micro-batches of an epoch.
    """

    def __init__(
        self,
        stream: SampleStream,
        *,
        task: Task = "causal_lm",
        prompt_loss: float = 0.0,
        batching: Batching = "length_grouped",
        batch_size: int = 16,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        limit: int | None = None,
    ) -> None:
        self.stream, self.task, self.prompt_loss = stream, task, prompt_loss
        self.batching, self.batch_size, self.seed = batching, batch_size, seed
        self.rank, self.world_size, self.accumulate, self.limit = rank, world_size, accumulate, limit
        step = batch_size * world_size * accumulate
        self.block_size = step * -(-_BLOCK // step)
        self.start = Position()

    @property
    def fingerprint(self) -> str:
        """Everything that a position depends on; a state of another fingerprint is refused."""
        order = (self.batching, self.batch_size, self.world_size, self.seed, self.block_size)
        return f"{self.stream.fingerprint} {order!r}"

    def __iter__(self) -> Iterator[tuple[PlannedBatch, Position]]:
        at = self.start
        samples = self.stream.samples(at.record, at.piece)
        ahead = list(islice(samples, 1))
        while ahead:
            block = [*ahead, *islice(samples, self.block_size - 1)]
            # Read before the last batch of the block: without a further sample, its position is in the next epoch.
            ahead = list(islice(samples, 1))
            before = at.block * self.block_size // (self.batch_size * self.world_size)
            left = None if self.limit is None else self.limit - before
            order = self._order(block, at.block, left)
            if left is not None and order.used == left:
                ahead = []
            elif not ahead and left is not None:
                raise ConfigError(
                    f"trainer.limit_train_batches={self.limit} is more than the {before + len(order)} batches of an "
                    "epoch, whose end would not be noticed: without its validation and its last optimiser step; omit it"
                )
            following = Position(at.epoch + 1)
            if ahead:
                following = Position(at.epoch, at.block + 1, ahead[0].record, ahead[0].piece)
            planned = PlannedSamples([streamed.sample for streamed in block])
            for number, plan in enumerate(order.plans(at.epoch)[at.batch :], start=at.batch + 1):
                yield planned[plan], replace(at, batch=number) if number < order.used else following
            at = following

    def _order(self, block: Sequence[StreamedSample], number: int, limit: int | None) -> TrainOrder:
        lengths, trained = token_counts([streamed.sample for streamed in block])
        return TrainOrder(
            lengths,
            trained_weights(self.task, lengths, trained, prompt_loss=self.prompt_loss),
            batching=self.batching,
            batch_size=self.batch_size,
            # A separate sequence for each block.
            seed=int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]),
            rank=self.rank,
            world_size=self.world_size,
            accumulate=self.accumulate,
            limit_batches=1.0 if limit is None else limit,
        )


class StreamedLoader:
    """The training loader of a stream for Lightning; each iteration is an epoch, the first from a loaded state.

    Not a `StatefulDataLoader`: from a loader without a length Lightning fetches one batch ahead, to know which one is
    the last, and would save the position after that one.

    Args:
        batches: The batches; their `start` is set here.
        collator: Makes tensors of a planned batch.
        num_workers: 0, or 1 to read and encode in a separate process.
        trainer: The Trainer that takes the batches, None for a plain loop.

    Attributes:
        sampler: This loader: Lightning calls `sampler.set_epoch` before each epoch.
    """

    def __init__(
        self, batches: StreamedBatches, collator: Collator, num_workers: int = 0, trainer: L.Trainer | None = None
    ) -> None:
        self.batches, self._collate, self._num_workers = batches, partial(_collate, collator), num_workers
        self._trainer = trainer
        self.sampler = self
        # Lightning fetches one batch ahead where neither the loader nor a limit gives the number of batches.
        prefetched = 1 if trainer is not None and batches.limit is None else 0
        self._start = batches.start
        self._behind = deque([self._start], maxlen=prefetched + 1)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Now, not at the first batch: the state may be read before it.
        self._behind.clear()
        self._behind.append(self._start)
        return self._iterate()

    def _iterate(self) -> Iterator[dict[str, Any]]:
        self.batches.start = self._start
        loader: DataLoader[Any] = DataLoader(
            self.batches,
            batch_size=None,
            collate_fn=self._collate,
            num_workers=self._num_workers,
            pin_memory=torch.cuda.is_available(),
        )
        for batch, position in loader:
            if position.epoch != self._start.epoch:
                self._start = position
            self._behind.append(position)
            yield batch
        # Lightning counts this end as a batch that it fetched ahead.
        self._behind.append(self._behind[-1])

    def set_epoch(self, epoch: int) -> None:
        """Let the Trainer leave a resumed epoch that was finished. The number is ignored: `Position` has the epoch."""
        if self._trainer is not None:
            leave_finished_epoch(self._trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that was trained on."""
        return {**asdict(self._behind[0]), "fingerprint": self.batches.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next iteration at a saved position.

        Raises:
            DataError: If it belongs to another stream or order.
        """
        if state.get("fingerprint") != self.batches.fingerprint:
            raise DataError(
                "the checkpoint has another stream or order of the training data, so its run cannot be resumed; give "
                "the same data.* options, devices and trainer.accumulate_grad_batches as in its config.yaml"
            )
        self._start = Position(**{name: value for name, value in state.items() if name != "fingerprint"})
        self._behind.clear()
        self._behind.append(self._start)


def _collate(collator: Collator, pair: Any) -> tuple[dict[str, Any], Position]:
    batch, position = pair
    return collator(batch), position
