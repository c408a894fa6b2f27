"""`ReportToStudy`: an arm says how far it is and how well it does, and stops if the study gives it up."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from lightning_neft.study.child import Progress, Validated

__all__ = ["ReportToStudy"]

_SECONDS_BETWEEN = 0.5


class ReportToStudy(pl.Callback):
    """Sends the steps done and the held-out losses to the worker, which answers whether to stop.

    Args:
        connection: To the worker; only the first rank has it.
    """

    def __init__(self, connection: Connection | None) -> None:
        self._connection = connection
        self._sent_at = 0.0
        self.is_given_up = False
        """Whether the study has told it to stop."""

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self._connection is not None and now - self._sent_at > _SECONDS_BETWEEN:
            self._sent_at = now
            self._connection.send(Progress(trainer.global_step, int(trainer.estimated_stepping_batches)))

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = int(trainer.estimated_stepping_batches)
        in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not in_fit or trainer.global_step >= steps:  # at the end there is nothing left to spare
            return
        stop = False
        if self._connection is not None:
            loss = trainer.callback_metrics["val/loss"].item()
            self._connection.send(Validated(trainer.global_step, steps, loss))
            stop = self._connection.recv()
        if trainer.strategy.broadcast(stop):
            self.is_given_up = trainer.should_stop = True
