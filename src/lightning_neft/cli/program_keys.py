"""Refuse misspelt keys before the imports of a run, which take seconds: the parser's keys are listed in a file.

The exact check follows with the parser. With another Lightning than that of the list it is the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lightning_neft.cli.config_files import resolve_configs
from lightning_neft.cli.keys import KnownKeys, check_keys

__all__ = ["LINKS", "LISTED_FOR", "check_early", "listed_keys"]

# Taken from another key: the tokenizer is always the one of the model.
LINKS = {
    "data.tokenizer": "model.base",
    "data.trust_remote_code": "model.trust_remote_code",
    "data.task": "task",
}
# Most keys are arguments of its Trainer.
LISTED_FOR = "2.6.6"


def listed_keys() -> list[str]:
    """Return the keys of all tasks, in alphabetical order."""
    return Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").split()


def check_early(args: Sequence[str]) -> None:
    """Check the keys of a command line and of its config files without the parser.

    Args:
        args: The options of the program, without those of a verb.

    Raises:
        ConfigError: If a config is not there, or a key is unknown; one message lists all that is wrong.
    """
    if version("lightning") != LISTED_FOR:
        return
    rest, files = resolve_configs([argument for argument in args if argument.partition("=")[0] != "--tiny"])
    check_keys(KnownKeys(listed_keys(), LINKS), rest, files)
