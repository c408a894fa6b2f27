"""Which data-parallel rank this process is, and how many there are."""

from __future__ import annotations

import lightning.pytorch as pl

__all__ = ["data_parallel_rank", "replicas"]


def replicas(trainer: pl.Trainer) -> int:
    """Return over how many copies of the model a batch is split: 1 without a distributed strategy.

    Not the world size: the ranks of a tensor-parallel group share one copy.
    """
    kwargs = trainer.distributed_sampler_kwargs
    return int(kwargs["num_replicas"]) if kwargs else 1


def data_parallel_rank(trainer: pl.Trainer) -> int:
    """Return the number of this process's copy of the model.

    Not the global rank: ranks that share one copy (tensor parallel) have to agree on its noise and its dropout.
    """
    kwargs = trainer.distributed_sampler_kwargs
    return int(kwargs["rank"]) if kwargs else 0
