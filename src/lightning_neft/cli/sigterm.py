"""SIGTERM, for verbs that do not train: an exception, as Ctrl-C is one, so that what is open is closed and kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "sigterm_raises"]


class Terminated(BaseException):
    """The process was asked to end by SIGTERM."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` at a SIGTERM inside of the block, once; a second one ends the process the hard way."""
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
