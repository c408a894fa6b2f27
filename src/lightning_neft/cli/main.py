"""The program `lightning_neft`: finds the verb, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from importlib import import_module

from lightning_neft.cli.help import VERBS, static_help
from lightning_neft.cli.sigterm import Terminated, sigterm_raises

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
    "generate": "lightning_neft.cli.generate",
    "export": "lightning_neft.cli.export",
    "study": "lightning_neft.cli.study",
    "evaluate": "lightning_neft.cli.evaluate",
    "report": "lightning_neft.cli.report",
}
# What a signal means while a model is trained is for Lightning and the study to say.
_OWN_SIGNALS = ("fit", "validate", "test", "predict", "study")
_USER_ERROR = 2
_INTERRUPTED = 130
_TERMINATED = 143
_BROKEN_PIPE = 141


def main(args: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        args: The command line after the program's name; that of the process by default.

    Returns:
        The exit code: 0, or 2 for something that the user can put right, or 130 after Ctrl-C, or 143 after SIGTERM; a
        verb may have others.
    """
    args = list(sys.argv[1:] if args is None else args)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name from somebody's file may hold what a terminal's encoding, or any, has no bytes for.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return code


def _run(args: list[str]) -> int:
    if (text := static_help(args)) is not None:
        print(text)
        return 0
    verb, *rest = args
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
        return _fail(f"unknown verb {verb!r}; {hint}")
    try:
        with nullcontext() if verb in _OWN_SIGNALS else sigterm_raises():
            # Seconds of imports, so only now.
            module = import_module(_MODULES[verb])
            code: int | None = module.run(verb, ["--help" if word == "--help-all" else word for word in rest])
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", _INTERRUPTED)
    except Terminated as stop:
        return _fail(str(stop) or "stopped", _TERMINATED)
    except SystemExit as error:  # jsonargparse leaves this way after --help and --print_config
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
