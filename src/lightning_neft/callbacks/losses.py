"""`CleanLoss` logs the training loss without noise; `FiniteLoss` ends a fit at the first loss that is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from lightning_neft.common.trainer import is_logging_step
from lightning_neft.errors import ConfigError, NonFiniteError
from lightning_neft.models.finetuner import FineTuner
from lightning_neft.models.finite import advice_against_overflow, float16_of

__all__ = ["CleanLoss", "FiniteLoss"]


class CleanLoss(pl.Callback):
    """Logs `train/clean_loss` every few steps: the loss of the batch and weights of `train/loss`, without the noise.

    Jain et al. (arXiv 2310.05914, section 5) read overfitting from it: with noise the clean training loss ends higher,
    and the held-out loss (`val/loss`, always clean) slightly lower. Dropout is off, too. It costs one forward pass at
    these steps, and does not change the training: no gradient, no random number.

    Args:
        every_n_steps: Interval in optimiser steps; rounded up to a multiple of the Trainer's log_every_n_steps, so that
            `train/loss` of the same step is logged.

    Raises:
        ConfigError: If every_n_steps is less than 1, or at the start of fit if the module is not one of this package.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[CleanLoss(20)], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ConfigError(f"every_n_steps={every_n_steps!r}: use 1 or more.")
        self.every_n_steps = every_n_steps
        self.last: tuple[int, float, float] | None = None
        """Optimiser step, `train/loss` and `train/clean_loss` of the last measurement of a fit, on this rank."""

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = None
        if not isinstance(pl_module, FineTuner):
            raise ConfigError(f"CleanLoss works with the models of this package, got {type(pl_module).__name__}.")

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, FineTuner)
        logged_every: int = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        # The module computes it in its training step, with the precision and sharding of the training.
        pl_module.wants_clean_loss = is_logging_step(trainer, -(-self.every_n_steps // logged_every) * logged_every)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, FineTuner)
        loss, pl_module.clean_loss = pl_module.clean_loss, None
        if loss is None:
            return
        value = loss.item()
        if pl_module.last_training_loss is not None:  # of the same batch; a step of the user's own may not set it
            self.last = (trainer.global_step, pl_module.last_training_loss[1].item(), value)
        # Not pl_module.log, which logs a value again at each later logging step.
        for logger in trainer.loggers:
            logger.log_metrics({"train/clean_loss": value}, step=trainer.fit_loop.epoch_loop._batches_that_stepped)


class FiniteLoss(pl.Callback):
    """Ends a fit at the first training or validation loss that is NaN or infinite.

    On one CPU every batch is checked. Elsewhere the device keeps the number of the first such step, which is read at
    the Trainer's logging steps and before a checkpoint is written, so that no step waits for the device. Gradients are
    not checked: with float16 the scaler skips steps whose gradients are not finite.

    Raises:
        NonFiniteError: At such a loss, also that of the sanity check, before the first step.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[FiniteLoss()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._start = 0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first, self._start = None, trainer.global_step

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor):
            return
        # Already counted, unless gradients are still being accumulated.
        step = trainer.global_step + trainer.fit_loop._should_accumulate()
        first = torch.where(loss.detach().isfinite(), 0, step)
        self._first = first if self._first is None else torch.where(self._first > 0, self._first, first)
        if is_logging_step(trainer) or (loss.device.type == "cpu" and trainer.world_size == 1):
            self._check(trainer, pl_module)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check(trainer, pl_module)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn != TrainerFn.FITTING or loss is None or math.isfinite(loss):
            return
        if trainer.sanity_checking:
            raise NonFiniteError(f"the validation loss is {loss:g} before the first step: {_of_start(pl_module)}")
        raise NonFiniteError(
            f"the validation loss is {loss:g} after step {trainer.global_step}; {advice_against_overflow(pl_module)}"
        )

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._first is None:
            return
        step = int(self._first)
        # All ranks raise: one alone would leave the others waiting.
        if trainer.strategy.reduce_boolean_decision(step > 0, all=False):
            step = step or trainer.global_step
            is_first = step == self._start + 1
            advice = f", the first: {_of_start(pl_module)}" if is_first else f"; {advice_against_overflow(pl_module)}"
            raise NonFiniteError(f"the training loss is not finite at step {step}{advice}")


def _of_start(module: Any) -> str:
    base = f" (model.base={module.base})" if hasattr(module, "base") else ""
    found = f"the weights at the start of this run{base} or its data are not finite"
    if (half := float16_of(module)) is None:
        return f"{found}; try another base"
    return f"{found}, or too large for {half}; try trainer.precision=32-true with model.dtype=float32, or another base"
