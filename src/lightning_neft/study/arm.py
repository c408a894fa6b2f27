"""The process of an arm, so that a crash or lack of memory does not end the study: its task, messages and record."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from lightning_neft.common.files import write_text
from lightning_neft.study.plan import Arm

__all__ = [
    "RECORD",
    "ArmTask",
    "Child",
    "Failed",
    "Measures",
    "Progress",
    "Validated",
    "describe_exit",
    "read_record",
    "write_record",
]

_SECONDS_TO_END = 5.0
RECORD = "arm.json"
"""The file in the folder of an arm with its outcome."""


class Measures(NamedTuple):
    """What to measure of a trained arm besides its losses.

    Attributes:
        answers: Number of held-out prompts to answer.
        max_new_tokens: Maximum tokens of an answer.
        memorization: Number of training prompts whose answers are compared with the references.
    """

    answers: int
    max_new_tokens: int
    memorization: int


class ArmTask(NamedTuple):
    """The task of a process: one arm.

    Attributes:
        arm: Its alpha and seed.
        folder: Folder of its run.
        args: The command line of its fit, without alpha, seed and folder.
        measures: What to measure afterwards.
    """

    arm: Arm
    folder: Path
    args: tuple[str, ...]
    measures: Measures

    def to_json(self) -> str:
        """Return it as a string for a command line."""
        return json.dumps([self.arm.alpha, self.arm.seed, str(self.folder), self.args, self.measures])

    @classmethod
    def from_json(cls, text: str) -> ArmTask:
        """Return the task in such a string.

        Example:
            >>> task = ArmTask(Arm(5.0, 0), Path("runs"), ("--samples=0",), Measures(1, 2, 3))
            >>> ArmTask.from_json(task.to_json()) == task
            True
        """
        alpha, seed, folder, args, measures = json.loads(text)
        return cls(Arm(alpha, seed), Path(folder), tuple(args), Measures(*measures))


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of an arm into its folder, atomically.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    write_text(folder / RECORD, json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of an arm; None until it has ended."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record


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

    def end(self) -> None:
        """Let it end by itself, so that it frees what it shares with other processes; after some seconds kill it."""
        self._process.join(_SECONDS_TO_END)
        self.kill()

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
    # What the fork server has imported stays: each garbage collection would go over it, and copy its pages.
    gc.freeze()
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
