"""Which training batches Lightning logs."""

from __future__ import annotations

import lightning.pytorch as pl

__all__ = ["is_logging_step"]


def is_logging_step(trainer: pl.Trainer, every_n_steps: int = 1) -> bool:
    """Return whether what this training batch logs will be written: the last one of an optimiser step that is due.

    Args:
        trainer: A Trainer within a training batch.
        every_n_steps: Ask for a step that is a multiple of this number too.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return True
    # Private names of Lightning's own decision; the tests notice if they go.
    loop, connector = trainer.fit_loop, trainer._logger_connector
    if loop._should_accumulate() or not connector.should_update_logs:
        return False
    return (loop.epoch_loop._batches_that_stepped + 1) % every_n_steps == 0
