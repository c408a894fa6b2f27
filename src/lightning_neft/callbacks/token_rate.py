"""`TokenRate`: the throughput of a fit in tokens per second."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from lightning_neft.common.trainer import is_logging_step, replicas

__all__ = ["TokenRate"]


class TokenRate(pl.Callback):
    """Logs `train/tokens_per_second` at the Trainer's logging steps: tokens of all ranks, without padding.

    The time is that between two logging steps, without validation. Tokens are counted on one rank; the others are
    assumed to have as many. Batches are dicts with `input_ids`, and `attention_mask` or `sequence_ids` if there is
    padding.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[TokenRate()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self) -> None:
        self._tokens: Tensor | int = 0
        self._seconds = 0.0
        self._since = 0.0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tokens, self._seconds, self._since = 0, 0.0, time.perf_counter()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds += time.perf_counter() - self._since

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        mask: Tensor | None = batch["sequence_ids"] >= 0 if "sequence_ids" in batch else batch.get("attention_mask")
        self._tokens += int(batch["input_ids"].numel()) if mask is None else mask.sum()
        if not is_logging_step(trainer):
            return
        # Waits for the device; without that, only the launch of the work would be timed.
        tokens = float(self._tokens) * replicas(trainer)
        now = time.perf_counter()
        seconds = self._seconds + now - self._since
        self._tokens, self._seconds, self._since = 0, 0.0, now
        pl_module.log("train/tokens_per_second", tokens / seconds, prog_bar=True)
