"""What a Trainer states only indirectly: the data-parallel rank of this process, and which batches are logged."""

from __future__ import annotations

import lightning.pytorch as pl

__all__ = ["data_parallel_rank", "is_logging_step", "replicas"]


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


def is_logging_step(trainer: pl.Trainer, every_n_steps: int = 1) -> bool:
    """Return whether values logged in this training batch are written: the last batch of an optimiser step that logs.

    Args:
        trainer: A Trainer during a training batch.
        every_n_steps: Also require that the step is a multiple of this number.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return True
    # Private names behind Lightning's own decision; the tests notice if they disappear.
    loop, connector = trainer.fit_loop, trainer._logger_connector
    if loop._should_accumulate() or not connector.should_update_logs:
        return False
    return (loop.epoch_loop._batches_that_stepped + 1) % every_n_steps == 0
