"""The program `lightning_neft`: finds the verb, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from lightning_neft.cli.help import OF_FIT, VERBS, static_help
from lightning_neft.cli.process import Terminated, check_environment, sigterm_raises
from lightning_neft.common.escaping import is_utf8
from lightning_neft.common.near_names import did_you_mean

__all__ = ["main"]

# The module of each verb; its `run(verb, args)` returns the exit code, or None for 0.
_MODULES = {
    "fit": "lightning_neft.cli.fit",
    "validate": "lightning_neft.cli.fit",
    "test": "lightning_neft.cli.fit",
    "predict": "lightning_neft.cli.fit",
    "preview": "lightning_neft.cli.preview",
    "doctor": "lightning_neft.cli.doctor",
    "recipes": "lightning_neft.cli.recipes",
    "schema": "lightning_neft.cli.schema",
    "generate": "lightning_neft.cli.generate",
    "export": "lightning_neft.cli.export",
    "study": "lightning_neft.cli.study",
    "evaluate": "lightning_neft.cli.evaluate",
    "report": "lightning_neft.cli.report",
}
# Lightning and the study handle signals themselves while a model is trained.
_OWN_SIGNALS = (*OF_FIT, "study")
_WITHOUT_LIGHTNING = ("recipes", "report")
_STANDARD_ERROR = 2
_USER_ERROR = 2
_INTERRUPTED = 130
_TERMINATED = 143
_BROKEN_PIPE = 141


def main(args: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        args: The command line after the program's name; that of the process by default.

    Returns:
        The exit code: 0, or 2 for an error that the user can fix, or 130 after Ctrl-C, or 143 after SIGTERM; a
        verb may have others.
    """
    args = list(sys.argv[1:] if args is None else args)
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name in a file may contain characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:  # the last output could not be written, as on a full disk
        # Otherwise Python would report it again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(f"the output cannot be written: {error.strerror}")
    return code


def _open_closed_streams() -> None:
    """Open the standard streams that were closed (`>&-`) to the null device.

    Otherwise the next opened file would take the number of a stream and receive the output of libraries. `sys.stdin`
    stays None, which tells a chat that there is no input.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_STANDARD_ERROR, "w", closefd=False)


def _unreadable(args: Sequence[str]) -> str | None:
    """Return the first word of a command line that is not valid UTF-8."""
    return next((word for word in args if not is_utf8(word)), None)


def _run(args: list[str]) -> int:
    if (word := _unreadable(args)) is not None:
        return _fail(f"{word!r} of the command line is not valid UTF-8; give it in UTF-8, or rename the file")
    if (text := static_help(args)) is not None:
        print(text)
        return 0
    verb, *rest = args
    if verb not in VERBS:
        hint = did_you_mean(verb, VERBS, f"the verbs are {', '.join(VERBS)}")
        return _fail(f"unknown verb {verb!r}; {hint}")
    try:
        with nullcontext() if verb in _OWN_SIGNALS else sigterm_raises():
            if verb not in _WITHOUT_LIGHTNING:
                check_environment()
            rest = ["--help" if word == "--help-all" else word for word in rest]
            if verb in OF_FIT:
                from lightning_neft.cli.keys import check_early

                check_early(rest)
            # Seconds of imports, so only now.
            module = import_module(_MODULES[verb])
            code: int | None = module.run(verb, rest)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", _INTERRUPTED)
    except Terminated as stop:
        return _fail(str(stop) or "stopped", _TERMINATED)
    except SystemExit as error:  # jsonargparse exits this way after --help and --print_config
        return error.code if isinstance(error.code, int) else 0
    except Exception as error:
        from lightning_neft.cli.errors import explain

        line = explain(error)
        if line is None:
            raise
        return _fail(line)
    return code or 0


def _fail(line: str, code: int = _USER_ERROR) -> int:
    print(f"lightning_neft: {line}", file=sys.stderr)
    return code
