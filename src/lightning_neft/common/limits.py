"""Try library calls on untrusted files in a forked process with limited time and memory.

Some can only be stopped from outside: a pattern that backtracks, `10 ** 10 ** 10`, a text that doubles itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

__all__ = ["beyond_limits"]

# Processor time, so that the result does not depend on the load of the machine.
_SECONDS = 3
_MEGABYTES = 1024
# For code that waits without using the processor.
_LONGEST_WAIT = 60.0
_OUT_OF_MEMORY = 3


def beyond_limits(work: Callable[[], object]) -> str | None:
    """Run a function in a forked process and return the limit that it exceeds, None if it exceeds none.

    The result or exception of the function is lost, so the caller runs it again.

    Args:
        work: A computation without GPU and threads.

    Example:
        >>> beyond_limits(lambda: "a" * 10) is None
        True
        >>> beyond_limits(lambda: "a" * 10**10)
        'it needs more than 1024 MB'
    """
    if not hasattr(os, "fork"):  # Windows has no limits of this kind either
        return None
    with warnings.catch_warnings():
        # Python 3.12 and later warn of locks held by other threads; nothing here takes such a lock.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _run(work)
    until = time.monotonic() + _LONGEST_WAIT
    found = status = 0
    try:
        while not found and time.monotonic() < until:
            found, status = os.waitpid(pid, os.WNOHANG)
            time.sleep(0 if found else 0.002)
    finally:
        if not found:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if not found or code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it does not end within {_SECONDS} seconds"
    # A library that cannot continue without memory ends the process.
    return f"it needs more than {_MEGABYTES} MB" if code else None


def _run(work: Callable[[], object]) -> NoReturn:
    code = 0
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        _limit()
        work()
    except MemoryError:
        code = _OUT_OF_MEMORY
    except BaseException:
        # The caller gets it again.
        code = 0
    finally:
        # Skip the parent's buffers and exit handlers.
        os._exit(code)


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    # macOS has neither the file nor an effective limit; there only the time is limited.
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + (_MEGABYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
