"""The data-parallel rank of this process, and the number of such ranks."""

from __future__ import annotations

import lightning.pytorch as pl

__all__ = ["data_parallel_rank", "replicas"]


def replicas(trainer: pl.Trainer) -> int:
    """Return the number of model replicas over which a batch is split: 1 without a distributed strategy.

    Not the world size: the ranks of a tensor-parallel group share one replica.
    """
    kwargs = trainer.distributed_sampler_kwargs
    return int(kwargs["num_replicas"]) if kwargs else 1


def data_parallel_rank(trainer: pl.Trainer) -> int:
    """Return the index of this process's model replica.

    Not the global rank: ranks that share a replica (tensor parallel) must agree on its noise and dropout.
    """
    kwargs = trainer.distributed_sampler_kwargs
    return int(kwargs["rank"]) if kwargs else 0
