"""A callback that ends its process the hard way, for runs that are started as processes of their own."""

from __future__ import annotations

import os
import signal

import lightning as L


class KillAt(L.Callback):
    """Sends a signal to this process at the start of a training batch, counted from the start of the training.

    Args:
        batch: Number of the batch.
        number: The signal; SIGKILL by default.
        rank: The process that gets it, where there are several.
    """

    def __init__(self, batch: int, number: int = signal.SIGKILL, rank: int = 0) -> None:
        self.batch, self.number, self.rank = batch, number, rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.fit_loop.total_batch_idx == self.batch and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)
