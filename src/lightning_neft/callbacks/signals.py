"""`StopOnSignal`: after SIGTERM or Ctrl-C the run ends with its optimiser step, and a checkpoint to resume from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from typing_extensions import override

from lightning_neft.callbacks.step_checkpoint import main_checkpoint

__all__ = ["StopOnSignal", "StoppedBySignal", "ctrl_c_raises"]

# Ranks have to agree on the step to stop at, which waits for the device: not at every step.
_STEPS_BETWEEN_AGREEMENTS = 10


class StoppedBySignal(BaseException):
    """A signal stopped the run.

    Attributes:
        signal: The signal.
        step: Number of optimiser steps done.
        checkpoint: The checkpoint to resume from; empty if checkpoints are off.
    """

    def __init__(self, number: signal.Signals, step: int, checkpoint: str) -> None:
        super().__init__(number, step, checkpoint)
        self.signal = number
        self.step = step
        self.checkpoint = checkpoint


class StopOnSignal(L.Callback):
    """Ends a fit after its optimiser step on SIGTERM or SIGINT (Ctrl-C), with `last.ckpt` saved.

    Of several processes each ends after the next step that is a multiple of 10, where they agree on it.

    Lightning alone ends it after the micro-batch (SIGTERM) or at once (SIGINT), which loses accumulated gradients. A
    second signal of the same kind ends the process at once. Under SLURM with requeueing, signals are left to Lightning.

    Raises:
        StoppedBySignal: At the end of that step. It is a BaseException, and names signal, step and checkpoint.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[StopOnSignal()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._asked = None
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            return
        if threading.current_thread() is not threading.main_thread():  # Python allows no handlers elsewhere
            return
        # After Lightning has set its own handlers.
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._take)

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        stop = self._asked is not None
        if trainer.world_size > 1:
            if trainer.global_step % _STEPS_BETWEEN_AGREEMENTS:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            checkpoint = _save_last(trainer)
            self._put_back()
            raise StoppedBySignal(self._asked or signal.SIGTERM, trainer.global_step, checkpoint)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._put_back()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._put_back()

    def _take(self, number: int, frame: FrameType | None) -> None:
        asked = signal.Signals(number)
        if self._asked is asked:  # the second: at once, with the default handler
            signal.signal(number, signal.default_int_handler if asked is signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked = asked

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def _save_last(trainer: L.Trainer) -> str:
    """Write the run's `last.ckpt`, on all ranks; return its path, which is empty if checkpoints are off."""
    checkpoint = main_checkpoint(trainer)
    if checkpoint is None or checkpoint.dirpath is None:
        return ""
    # A link is that to one of the best, which must not be written through it.
    if trainer.is_global_zero and Path(checkpoint.last_model_path).is_symlink():
        Path(checkpoint.last_model_path).unlink()
    trainer.strategy.barrier()
    options = (checkpoint.save_last, checkpoint.save_weights_only)
    checkpoint.save_last, checkpoint.save_weights_only = True, False
    try:
        # Under Lightning's name for it, which has a number where another run has written its own.
        checkpoint._save_last_checkpoint(trainer, checkpoint._monitor_candidates(trainer))
    finally:
        checkpoint.save_last, checkpoint.save_weights_only = options
    return checkpoint.last_model_path


@contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """Let Ctrl-C in a Trainer's method raise `KeyboardInterrupt`.

    Lightning turns it into exit code 1, after its clean-up, and ignores further ones.
    """
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
