"""The process that the program runs in: the variables by which launchers number it, and SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning_neft.errors import ConfigError

__all__ = ["Terminated", "check_environment", "sigterm_raises"]

# Variables that Lightning reads as whole numbers, some while it is imported; its errors do not name them.
_NUMBERS = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "JSM_NAMESPACE_RANK",
    "JSM_NAMESPACE_LOCAL_RANK",
    "JSM_NAMESPACE_SIZE",
)


def check_environment() -> None:
    """Check the variables that number the processes of a run.

    Raises:
        ConfigError: If one is not a whole number; one message lists all.
    """
    wrong = [name for name in _NUMBERS if (value := os.environ.get(name)) is not None and not value.isdecimal()]
    if wrong:
        listed = ", ".join(f"{name}={os.environ[name]!r}" for name in wrong)
        raise ConfigError(f"the environment has {listed}, where a whole number is expected; unset it, or set a number")


class Terminated(BaseException):
    """The process was asked to end by SIGTERM."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` at the first SIGTERM inside the block, as Ctrl-C raises; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated
