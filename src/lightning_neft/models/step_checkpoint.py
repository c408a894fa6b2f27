"""`StepCheckpoint`: no checkpoint in the middle of an optimiser step, whose gradients so far it would not hold."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

__all__ = ["StepCheckpoint"]


class StepCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, which saves during the training only where an optimiser step has just ended.

    Lightning's own saves after any batch if it saves by time (`train_time_interval`), and with `every_n_train_steps`
    after the first batch of a run that has gone on from a checkpoint. With accumulated gradients a run that goes on
    from there makes a step of less than its batches. The same holds for what is saved after a validation in the middle
    of an epoch: it is moved to the end of the step that it would have fallen into, for which a notice is printed.
    Validations by time (`val_check_interval` as a time) stay where they are.

    >>> checkpoint = StepCheckpoint(every_n_train_steps=100)
    """

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        every, accumulated, batches = (
            trainer.val_check_batch,
            trainer.accumulate_grad_batches,
            trainer.num_training_batches,
        )
        if every is None or every >= batches or every % accumulated == 0 or not trainer.enable_validation:
            return
        # The last step of an epoch ends with it.
        moved = min(every + accumulated - every % accumulated, batches)
        rank_zero_info(
            f"validation after {moved:g} batches, not {every}: an optimiser step of {accumulated} batches ends there"
        )
        trainer.val_check_batch = moved

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.fit_loop.epoch_loop._should_accumulate():
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
