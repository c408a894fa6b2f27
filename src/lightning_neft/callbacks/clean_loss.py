"""`CleanLoss`: the training loss with the noise off, beside the one with it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from typing_extensions import override

from lightning_neft.common.trainer import is_logging_step
from lightning_neft.errors import ConfigError
from lightning_neft.models.finetuner import FineTuner

__all__ = ["CleanLoss"]


class CleanLoss(pl.Callback):
    """Logs `train/clean_loss` every few steps: the loss of the very batch and weights of `train/loss`, without noise.

    Jain et al. (arXiv 2310.05914, section 5) tell from it that the noise acts against overfitting: with it the clean
    training loss ends higher and the held-out loss (`val/loss`, always clean) slightly lower. Dropout is off in it too.
    It costs a forward pass at these steps, and changes nothing of the training: no gradient, no random number.

    Args:
        every_n_steps: How often, in optimiser steps; rounded up to a multiple of the Trainer's log_every_n_steps, so
            that `train/loss` of the same step is logged.

    Raises:
        ConfigError: If every_n_steps is less than 1, or at the start of fit if the module is none of this package.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[CleanLoss(20)], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ConfigError(f"every_n_steps={every_n_steps!r}: use 1 or more.")
        self.every_n_steps = every_n_steps

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, FineTuner):
            raise ConfigError(f"CleanLoss works with the models of this package, got {type(pl_module).__name__}.")

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, FineTuner)
        logged_every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        period = -(-self.every_n_steps // max(1, logged_every)) * max(1, logged_every)
        # The module computes it in its training step, where precision and sharding are those of the training.
        pl_module.wants_clean_loss = is_logging_step(trainer, period)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, FineTuner)
        loss, pl_module.clean_loss = pl_module.clean_loss, None
        if loss is None:
            return
        # To the loggers themselves: what is given to pl_module.log is logged again at each later logging step.
        for logger in trainer.loggers:
            logger.log_metrics(
                {"train/clean_loss": loss.item()}, step=trainer.fit_loop.epoch_loop._batches_that_stepped
            )
