"""Classes of the current folder, as `python -m` finds them: the installed program does not have it on its path."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

__all__ = ["make_local_classes_importable"]

# The first part of a class path, such as that of `my_callbacks.EarlyNoise`.
_MODULE = re.compile(r"(?<![\w./-])([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)+")


def make_local_classes_importable(texts: Sequence[str]) -> None:
    """Put the current folder at the end of the path if a class path names a module in it and nothing else has it.

    At the end, and only then: no file that happens to lie there takes the place of a library.

    Args:
        texts: Words of the command line and the text of configs.
    """
    names = {name for text in texts for name in _MODULE.findall(text)}
    here = Path.cwd()
    if any(_is_module(here, name) and find_spec(name) is None for name in names):
        sys.path.append(str(here))


def _is_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
