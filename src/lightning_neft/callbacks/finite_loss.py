"""`FiniteLoss`: a fit ends at the first loss that is not finite."""

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
from lightning_neft.errors import NonFiniteError
from lightning_neft.models.finite import advice_against_overflow, precision_of

__all__ = ["FiniteLoss"]


class FiniteLoss(pl.Callback):
    """Ends a fit at the first training or held-out loss that is not finite.

    On one CPU each batch is looked at. Elsewhere the device keeps the number of the first such step, which is read at
    the Trainer's logging steps and before a checkpoint is written, so that no step waits for the device. Gradients are
    not looked at: with float16 the scaler skips steps whose gradients are not finite.

    Raises:
        NonFiniteError: At such a loss; also at that of the sanity check, which is of the base.

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
        # The step is counted already unless this batch is one of several that are accumulated.
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
            raise NonFiniteError(f"the held-out loss is {loss:g} before the first step: {_of_start(pl_module)}")
        raise NonFiniteError(
            f"the held-out loss is {loss:g} after step {trainer.global_step}; {advice_against_overflow(pl_module)}"
        )

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._first is None:
            return
        step = int(self._first)
        # One rank alone would leave the others waiting.
        if trainer.strategy.reduce_boolean_decision(step > 0, all=False):
            step = step or trainer.global_step
            told = f"the training loss is not finite at step {step}"
            if step == self._start + 1:
                raise NonFiniteError(f"{told}, the first one: {_of_start(pl_module)}")
            raise NonFiniteError(f"{told}; {advice_against_overflow(pl_module)}")


def _of_start(module: Any) -> str:
    base = f" (model.base={module.base})" if hasattr(module, "base") else ""
    return (
        f"the weights that this run starts from{base} or its data are not finite, or too large for "
        f"{precision_of(module)}; try trainer.precision=32-true with model.dtype=float32, or another base"
    )
