"""Try what strangers' files make a library do, in a copy of this process that may use so much time and memory.

Some of it can be stopped from outside alone: a pattern that backtracks, `10 ** 10 ** 10`, a text that doubles itself.
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

# Of processor time, so that a busy machine does not count against anybody.
_SECONDS = 3
_MEGABYTES = 1024
# For what waits without working.
_LONGEST_WAIT = 60.0
_OUT_OF_MEMORY = 3


def beyond_limits(work: Callable[[], object]) -> str | None:
    """Run a function in a forked copy of this process and return which limit it passes, None if it stays within them.

    What the function returns or raises is lost, so that the caller runs it again.

    Args:
        work: Plain computing, without a GPU and without threads.

    Example:
        >>> beyond_limits(lambda: "a" * 10) is None
        True
        >>> beyond_limits(lambda: "a" * 10**10)
        'it needs more than 1024 MB'
    """
    if not hasattr(os, "fork"):  # Windows has no limits of this kind either
        return None
    with warnings.catch_warnings():
        # Python 3.12 and later warn of locks that other threads may hold; nothing here takes one of those.
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
    # A library that cannot go on without memory ends the process.
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
        # The caller meets it again.
        code = 0
    finally:
        # Neither buffers of the parent nor its exit handlers are this process's business.
        os._exit(code)


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    # macOS has neither the file nor a limit that counts; there the time alone is limited.
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + (_MEGABYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
