"""A process for one arm, so that a crash or lack of memory does not end the study, and the messages it sends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

__all__ = ["Child", "Failed", "Progress", "ReportToStudy", "Validated", "describe_exit"]


_SECONDS_BETWEEN = 0.5


class ReportToStudy(pl.Callback):
    """Sends progress and held-out losses to the worker, which replies whether to stop.

    Args:
        connection: To the worker; None on all but the first rank.
    """

    def __init__(self, connection: Connection | None) -> None:
        self._connection = connection
        self._sent_at = 0.0
        self.is_given_up = False
        """Whether the study has pruned this arm."""

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
        if not in_fit or trainer.global_step >= steps:  # at the end there is nothing left to save
            return
        stop = False
        if self._connection is not None:
            loss = trainer.callback_metrics["val/loss"].item()
            self._connection.send(Validated(trainer.global_step, steps, loss))
            stop = self._connection.recv()
        if trainer.strategy.broadcast(stop):
            self.is_given_up = trainer.should_stop = True


class Progress(NamedTuple):
    """The number of optimizer steps that an arm has done."""

    step: int
    steps: int


class Validated(NamedTuple):
    """An arm was validated after this many steps, and waits for the reply whether to stop."""

    step: int
    steps: int
    loss: float


class Failed(NamedTuple):
    """The task failed, with a one-line reason."""

    error: str


class Child:
    """Runs a function in a separate process, which ends with this one.

    Args:
        target: The function as `module:name`, so that this process does not import the module; it is called with the
            task and the connection to this process.
        task: What it is called with; plain values.
        log: Its output is appended to this file.
    """

    def __init__(self, target: str, task: Any, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([target.partition(":")[0]])
        self._connection, theirs = context.Pipe()
        # Not a daemon: those may not start data-loading processes.
        self._process = context.Process(target=_enter, args=(target, task, theirs, str(log)))
        self._process.start()
        theirs.close()
        self._is_open = True

    def message(self, seconds: float) -> Any:
        """Return the next message of the child; None if there is none within these seconds."""
        wait([self._connection, self._process.sentinel] if self._is_open else [self._process.sentinel], seconds)
        if self._is_open and self._connection.poll():
            try:
                return self._connection.recv()
            except (EOFError, ConnectionResetError):
                self._is_open = False
        return None

    @property
    def exit_code(self) -> int | None:
        """The exit code, minus the signal if one ended it; None while it runs or has unread messages."""
        if self._process.is_alive() or (self._is_open and self._connection.poll()):
            return None
        return self._process.exitcode

    def answer(self, value: Any) -> None:
        """Send it a value; if it has ended, that is visible in its exit code."""
        with suppress(OSError):
            self._connection.send(value)

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()


def describe_exit(code: int) -> str:
    """Describe how a process ended that left no message.

    Example:
        >>> describe_exit(-9)
        'its process was ended by SIGKILL; out of memory?'
    """
    if code >= 0:
        return f"its process ended with exit code {code}"
    number = signal.Signals(-code)
    return f"its process was ended by {number.name}{'; out of memory?' if number is signal.SIGKILL else ''}"


def _enter(target: str, task: Any, connection: Connection, log: str) -> None:
    # Ctrl-C reaches all of a terminal's processes; only the parent may ask this one to stop.
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with Path(log).open("a", encoding="utf-8") as file:
        for standard in (sys.stdout, sys.stderr):
            standard.flush()
            os.dup2(file.fileno(), standard.fileno())
    module, _, name = target.partition(":")
    getattr(import_module(module), name)(task, connection)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    # At once: another worker may already have resumed this one's work.
    os._exit(1)
