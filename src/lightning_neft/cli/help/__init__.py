"""Help of the program and its verbs: one text file each, printed without a parser or heavy imports.

In a text each paragraph and each option is one line; `static_help` wraps them to the width of the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap

from lightning_neft._version import __version__

__all__ = ["OF_FIT", "VERBS", "static_help"]

VERBS = {
    "fit": "fine-tune a model",
    "validate": "loss and perplexity on the validation set",
    "test": "as validate, logged as test/loss and test/perplexity",
    "predict": "answers to the validation set, written to predictions.jsonl",
    "preview": "print training samples, lengths and padding; loads no weights",
    "doctor": "check where noise is applied and how strong it is; no training",
    "recipes": "list, show or copy the bundled recipes",
    "schema": "print a JSON schema of the config, for completion in an editor",
    "generate": "answer a prompt or a file of prompts, or chat",
    "export": "write a fine-tuned model for from_pretrained, or push it to the hub",
    "study": "compare alphas over several seeds in paired runs, then report",
    "evaluate": "text statistics, memorisation, clean losses, win rates, benchmarks",
    "report": "one HTML page from the results of evaluate and study",
}

# Those of LightningCLI, which share their options and their help.
OF_FIT = ("fit", "validate", "test", "predict")

# Longer lines are hard to read, and below the other the texts of options have no room.
_WIDEST, _NARROWEST = 100, 60
# A name, two spaces or more, and what it is.
_ENTRY = re.compile(r"  \S.*?\S {2,}(?=\S)")
_COMMAND = "lightning_neft "
# Where the texts of options begin; those of longer names begin on the next line.
_COLUMN = 27


def static_help(args: Sequence[str]) -> str | None:
    """Return the text that a command line asks for, or None if it asks for something else.

    Args:
        args: The command line after the program's name.
    """
    if not args or args[0] in ("-h", "--help", "help"):
        return _text("program", verbs="\n".join(f"  {verb:<10}{what}" for verb, what in VERBS.items()))
    verb = args[0]
    if verb == "--version":
        return f"lightning_neft {__version__}"
    if verb in VERBS and any(argument in ("-h", "--help") for argument in args[1:]):
        listed = _listed() if verb in (*OF_FIT, "generate") else {}
        return _text("fit" if verb in OF_FIT else verb, verb=verb, what=VERBS[verb], **listed)
    return None


def _listed() -> dict[str, str]:
    """Return the names of all data formats and templates; the tables import nothing heavy."""
    from lightning_neft.data.formats.registry import FORMATS
    from lightning_neft.data.templates.registry import TEMPLATES

    return {"formats": ", ".join(FORMATS), "templates": ", ".join(TEMPLATES)}


def _text(name: str, **values: str) -> str:
    text = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").format(**values)
    width = min(max(get_terminal_size().columns, _NARROWEST), _WIDEST)
    return "\n".join(_wrapped(line, width) for line in text.splitlines())


def _wrapped(line: str, width: int) -> str:
    r"""Return a line as several that fit; commands stay such that they can be copied.

    Example:
        >>> print(_wrapped("  --out PATH     the page or its folder", 30))
          --out PATH     the page or
                         its folder
        >>> print(_wrapped("  lightning_neft report a.json --out page.html", 34))
          lightning_neft report a.json \
            --out page.html
        >>> print(_wrapped("  --a.very.long.option NUMBER  what it is", 60))
          --a.very.long.option NUMBER
                                   what it is
    """
    entry = _ENTRY.match(line)
    before = ""
    if entry is not None and entry.end() > _COLUMN and line.startswith("  -"):
        before, line = f"{entry[0].rstrip()}\n", " " * _COLUMN + line[entry.end() :]
    is_example = entry is None and line.startswith(f"  {_COMMAND}")
    if entry is not None:
        indent = min(entry.end(), _COLUMN)
    else:
        # Usage and examples continue below their options.
        indent = 4 if is_example else line.find(_COMMAND) + 4 if _COMMAND in line[: 8 + len(_COMMAND)] else 0
    # An option and its value stay on one line, and so do brackets.
    glued = re.sub(r"\[[^]]*\]|--\S+ (?:\"[^\"]*\"|[^-\s]\S*)" if entry is None else r"\[[^]]*\]", _glue, line)
    lines = wrap(
        glued,
        width - 2 * is_example,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return before + (" \\\n" if is_example else "\n").join(lines).replace("\xa0", " ")


def _glue(found: re.Match[str]) -> str:
    return found[0].replace(" ", "\xa0")
