"""Processes that begin with all that this one has imported, to be killed by the dozen."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import torch


class Forked:
    """A copy of this process that calls a function and ends with what it returns as its exit code.

    Args:
        run: The function.
        log: Gets what it prints, appended.
    """

    def __init__(self, run: Callable[[], int], log: Path) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        self._code: int | None = None
        if self.pid == 0:
            _enter(run, log)

    def poll(self) -> int | None:
        """Return the exit code, minus the signal if one ended it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, seconds: float = 120) -> int | None:
        """Return the exit code, or None if it still runs after these seconds."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        return self._code

    def send(self, number: int) -> int:
        """Send it a signal, if it has not ended, and return its exit code."""
        if self.poll() is None:
            os.kill(self.pid, number)
        code = self.wait()
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
            raise AssertionError(f"process {self.pid} took no notice of signal {number}")
        return code


def _enter(run: Callable[[], int], log: Path) -> None:
    code = 70
    try:
        gc.freeze()  # collections would copy the pages of all that is shared
        # The fork server of the test is not a child of this process.
        forkserver._forkserver.__init__()
        file = log.open("a", encoding="utf-8", buffering=1)
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.stdout = sys.stderr = file
        # PyTorch makes its thread pool anew at the first use after a fork, which two threads must not do at once.
        torch.set_num_threads(1)
        # Those of the tests are of no use here.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
