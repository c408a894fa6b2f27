"""A process for one arm, so that what ends it (out of memory, a crash) does not end the study.

Forked from a server that has the program's modules loaded: a new interpreter would spend seconds on its imports for
each arm. The server itself never touches a device and starts no threads, so that its forks are as good as new.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Child", "Failed", "Progress", "Validated", "describe_exit"]


class Progress(NamedTuple):
    """An arm has done so many of its optimiser steps."""

    step: int
    steps: int


class Validated(NamedTuple):
    """An arm was validated after so many steps, and waits to hear whether to stop."""

    step: int
    steps: int
    loss: float


class Failed(NamedTuple):
    """What was asked for could not be done; why, in a line."""

    error: str


class Child:
    """Runs a function in a process of its own, which ends with this one.

    Args:
        target: The function as `module:name`, so that this process need not import the module; it is called with the
            task and the connection to this process.
        task: What it is called with; plain values.
        log: Gets what it prints, appended.
    """

    def __init__(self, target: str, task: Any, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([target.partition(":")[0]])
        self._connection, theirs = context.Pipe()
        # Not a daemon: those may not have processes of their own, which load data.
        self._process = context.Process(target=_enter, args=(target, task, theirs, str(log)))
        self._process.start()
        theirs.close()
        self._is_open = True

    def message(self, seconds: float) -> Any:
        """Return what the child has sent; None if that is nothing within these seconds."""
        wait([self._connection, self._process.sentinel] if self._is_open else [self._process.sentinel], seconds)
        if self._is_open and self._connection.poll():
            try:
                return self._connection.recv()
            except (EOFError, ConnectionResetError):
                self._is_open = False
        return None

    @property
    def exit_code(self) -> int | None:
        """The exit code, minus the signal if one ended it; None while it runs or has messages that nobody has read."""
        if self._process.is_alive() or (self._is_open and self._connection.poll()):
            return None
        return self._process.exitcode

    def answer(self, value: Any) -> None:
        """Send it something; if it has ended, its exit code says so."""
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
    """Say how a process ended that left no message.

    Example:
        >>> describe_exit(-9)
        'its process was ended by SIGKILL; out of memory?'
    """
    if code >= 0:
        return f"its process ended with exit code {code}"
    number = signal.Signals(-code)
    return f"its process was ended by {number.name}{'; out of memory?' if number is signal.SIGKILL else ''}"


def _enter(target: str, task: Any, connection: Connection, log: str) -> None:
    # Ctrl-C goes to all of a terminal's processes: this one is asked to stop by its parent alone.
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
    # At once: another worker may already go on with what this one was doing.
    os._exit(1)
