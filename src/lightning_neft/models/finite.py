"""`FiniteLoss`: a fit ends at the first loss that is not finite, and weights that are not finite are never saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from lightning_neft.common.logging_step import is_logging_step
from lightning_neft.errors import NonFiniteError

if TYPE_CHECKING:
    from lightning_neft.models.pretrained import PretrainedModule

__all__ = ["FiniteLoss", "check_trained_weights", "first_non_finite"]


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
        raise NonFiniteError(f"the held-out loss is {loss:g} after step {trainer.global_step}; {_advice(pl_module)}")

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
            raise NonFiniteError(f"{told}; {_advice(pl_module)}")


def first_non_finite(weights: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return the name of the first tensor that holds NaN or an infinity, or None; waits for the device.

    Example:
        >>> first_non_finite([("a", torch.ones(2)), ("b", torch.tensor([1.0, float("nan")]))])
        'b'
    """
    for name, value in weights:
        # Of sharded weights the part that is here.
        part: Tensor = value.to_local() if hasattr(value, "to_local") else value
        part = part.detach()
        # Smallest and largest need no second tensor of this size, and are NaN where one of the values is.
        if part.is_floating_point() and part.numel() and not all(math.isfinite(x) for x in torch.aminmax(part)):
            return name
    return None


def check_trained_weights(module: PretrainedModule) -> None:
    """Check the weights that a checkpoint is about to be made of, by all ranks.

    Raises:
        NonFiniteError: If one of them is not finite.
    """
    name = first_non_finite((name, value) for name, value in module.named_parameters() if value.requires_grad)
    if module._trainer is None:
        is_bad, step = name is not None, 0
    else:
        trainer = module.trainer
        is_bad, step = trainer.strategy.reduce_boolean_decision(name is not None, all=False), trainer.global_step
    if is_bad:
        raise NonFiniteError(
            f"the weights are not finite after step {step} ({name or 'on another rank'}) and were not saved; "
            f"{_advice(module)}"
        )


def _of_start(module: Any) -> str:
    base = f" (model.base={module.base})" if hasattr(module, "base") else ""
    return (
        f"the weights that this run starts from{base} or its data are not finite, or too large for "
        f"{_precision(module)}; try trainer.precision=32-true with model.dtype=float32, or another base"
    )


def _advice(module: Any) -> str:
    rate = getattr(module, "learning_rate", None)
    found = f"try a smaller model.learning_rate{'' if rate is None else f' than {rate:g}'}"
    precision = _precision(module)
    # float16, whether of the weights or of the computation: numbers above 65504 and below 6e-8 are lost.
    is_half = "=16-" in precision or "float16" in precision
    return f"{found}, or trainer.precision=32-true instead of {precision}" if is_half else found


def _precision(module: Any) -> str:
    precision = f"trainer.precision={module.trainer.precision}" if module._trainer is not None else "its precision"
    is_half = getattr(getattr(module, "model", None), "dtype", None) is torch.float16
    return f"{precision} with weights in float16" if is_half else precision
