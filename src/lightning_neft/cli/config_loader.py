"""How the parser reads YAML, wherever it meets it: in files, in files of a section, and on the command line."""

from __future__ import annotations

import re
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from lightning_neft.config_text import check_text

__all__ = ["PARSER_MODE"]

# For `parser_mode`: a name of our own, so that other parsers in this process read as before.
PARSER_MODE = "lightning_neft"

# A time, which YAML 1.1 reads as a number to the base 60.
_TIME = re.compile(r"[-+]?[0-9]+(:[0-9]+)+(\.[0-9]*)?")


def _load(text: str) -> Any:
    if _TIME.fullmatch(text.strip()):
        return text
    # A config file has been checked already, with its name; what it or an option names has not.
    check_text(text, "a value of the command line, or a file that it names")
    return get_loader("yaml")(text)


set_loader(PARSER_MODE, _load, exceptions=(yaml.YAMLError,))
