"""The program in a pseudo-terminal, and what the terminal shows of it: an emulator's screen with what scrolled off."""

from __future__ import annotations

import fcntl
import io
import logging
import multiprocessing
import os
import select
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyte

_LINES = 30
# Of a terminal the size counts, and nothing that a shell of the tests has set.
_UNSET = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "COLORTERM", "PYTEST_CURRENT_TEST", "CI")


class Shown(NamedTuple):
    """What a terminal shows at the end.

    Attributes:
        text: All lines, from the first that scrolled off, without spaces at their ends.
        code: Exit code of the program.
        has_cursor: Whether the cursor is visible.
        raw: What the program wrote, escape sequences included.
    """

    text: str
    code: int | None
    has_cursor: bool
    raw: str


class Typed(NamedTuple):
    """Something that a person does once a text is on the screen.

    Attributes:
        after: The text; each is waited for in what came since the one before.
        keys: What is typed; `\\x03` is Ctrl-C.
        columns: New width of the terminal, if it is resized.
    """

    after: str
    keys: str = ""
    columns: int | None = None


def show(
    args: Sequence[str],
    folder: Path,
    columns: int = 80,
    typed: Sequence[Typed] = (),
    environment: dict[str, str] | None = None,
    seconds: float = 120,
) -> Shown:
    """Run the program in a terminal.

    It is forked from a process that has the program's modules loaded, the one that a study's arms come from: a new
    interpreter would spend seconds on its imports each time.

    Args:
        args: The command line.
        folder: Where it runs.
        columns: Width of the terminal.
        typed: What a person does, in this order.
        environment: Variables to set.
        seconds: The program may take.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_neft.cli.study_arm"])
    master, slave = os.openpty()
    _resize(master, columns)
    variables = {name: value for name, value in os.environ.items() if name not in _UNSET}
    variables |= {"TERM": "xterm-256color", **(environment or {})}
    process = context.Process(target=_run, args=(os.ttyname(slave), list(args), str(folder), variables))
    process.start()
    try:
        return _watch(process, master, columns, list(typed), seconds)
    finally:
        process.kill()
        process.join()
        os.close(slave)
        os.close(master)


def _watch(process: Any, master: int, columns: int, typed: list[Typed], seconds: float) -> Shown:
    screen = pyte.HistoryScreen(columns, _LINES, history=10_000, ratio=0.5)
    stream = pyte.ByteStream(screen)
    raw, since, until = b"", b"", time.monotonic() + seconds
    while time.monotonic() < until:
        ended = not process.is_alive()
        data = _read(master, 0.0 if ended else 0.1)
        stream.feed(data)
        raw, since = raw + data, since + data
        if typed and typed[0].after.encode() in since:
            action, since = typed.pop(0), b""
            if action.columns is not None:
                _resize(master, action.columns)
                screen.resize(columns=action.columns)
            os.write(master, action.keys.encode())
        if ended and not data:
            break
    assert not typed, f"{typed[0].after!r} was not shown:\n{_text(screen)}"
    assert process.exitcode is not None, f"still running after {seconds:g} s:\n{_text(screen)}"
    return Shown(_text(screen), process.exitcode, not screen.cursor.hidden, raw.decode(errors="replace"))


def _read(master: int, seconds: float) -> bytes:
    if not select.select([master], [], [], seconds)[0]:
        return b""
    try:
        return os.read(master, 65536)
    except OSError:  # nobody has the terminal open
        return b""


def _resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))


def _text(screen: pyte.HistoryScreen) -> str:
    above = ["".join(line[column].data for column in range(screen.columns)) for line in screen.history.top]
    return "\n".join(line.rstrip() for line in [*above, *screen.display]).rstrip() + "\n"


class _Standard(io.TextIOWrapper):
    """The standard output or error; not written to by the thread of a bar while the process is forked."""

    lock = threading.RLock()

    def __init__(self, number: int) -> None:
        super().__init__(os.fdopen(number, "wb", closefd=False), encoding="utf-8", line_buffering=True)

    def write(self, text: str) -> int:
        with self.lock:
            return super().write(text)

    def flush(self) -> None:
        with self.lock:
            super().flush()


def _run(terminal: str, args: list[str], folder: str, variables: dict[str, str]) -> None:
    os.setsid()  # after this the first terminal that is opened is the one of the process: Ctrl-C in it comes here
    file = os.open(terminal, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(file, number)
    before = sys.stderr
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (_Standard(number) for number in (1, 2))
    for logger in logging.root.manager.loggerDict.values():
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(sys.stderr)
    sys.argv = ["lightning_neft", *args]
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    # The arms of a study are forked from here, where all is loaded already.
    forking = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forking
    lock, standard = _Standard.lock, (sys.stdout, sys.stderr)

    def as_from_the_server() -> None:
        """Leave a forked process with what it would have if it came from the study's own server."""
        lock.release()
        # A bar stands in for both, with a lock of its own that its thread may have held.
        sys.stdout, sys.stderr = standard
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=as_from_the_server)
    from lightning_neft.cli import memory
    from lightning_neft.cli.main import main

    # The number of its digits decides where lines break.
    memory.free_memory = lambda *_: 16e9
    sys.exit(main(args))
