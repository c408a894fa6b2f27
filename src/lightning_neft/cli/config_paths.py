"""The paths of a config: `~` is expanded before Lightning gets them, which does so in one place and not in another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lightning_neft.common.paths import is_address, user_path

__all__ = ["expand_paths"]

# What the names of paths end with: default_root_dir, dirpath, save_dir, the options of loggers and callbacks.
_ENDINGS = ("dir", "path", "folder", "file", "root")
# These are expanded where they are read, and stay as they were given in what is saved.
_READ_HERE = ("model.base", "data.source", "data.cache_dir", "ckpt_path")


def expand_paths(config: Namespace) -> None:
    """Expand the paths of the Trainer and the checkpoints in place, and check the others.

    Raises:
        ConfigError: There is no such home folder, or a path holds a NUL character.
    """
    for key in _READ_HERE:
        if (value := config.get(key)) is not None:
            user_path(value, key)
    for section in ("trainer", "checkpoint"):
        _expand(config[section], section)


def _expand(section: Any, where: str) -> None:
    for name, value in _items(section):
        key = f"{where}.{name}"
        if isinstance(value, (str, Path)):
            # Whether it can be an address is for the class to say.
            if str(name).endswith(_ENDINGS) and name != "class_path" and not is_address(value):
                section[name] = type(value)(user_path(value, key))
        else:
            _expand(value, key)


def _items(section: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the entries of a section or list, where it has some."""
    if isinstance(section, Namespace):
        yield from list(vars(section).items())
    elif isinstance(section, dict):
        yield from list(section.items())
    elif isinstance(section, list):
        yield from enumerate(section)
