"""Which training batches Lightning logs."""

from __future__ import annotations

import lightning.pytorch as pl

__all__ = ["is_logging_step"]


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
