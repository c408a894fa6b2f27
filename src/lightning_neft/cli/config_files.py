"""Config files of a command line: find and read them, expand their paths, make their classes importable."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader, set_loader

from lightning_neft.common.config_text import check_text
from lightning_neft.common.paths import is_address, user_path
from lightning_neft.errors import ConfigError
from lightning_neft.recipes.recipe import find_recipe, recipe_name, recipes_folder

__all__ = [
    "PARSER_MODE",
    "expand_paths",
    "last_recipe",
    "make_local_classes_importable",
    "resolve_configs",
    "run_name",
]

# For `parser_mode`: a name of our own, so that other parsers in this process read as before.
PARSER_MODE = "lightning_neft"

# A time, which YAML 1.1 reads as a number to the base 60.
_TIME = re.compile(r"[-+]?[0-9]+(:[0-9]+)+(\.[0-9]*)?")


def _load(text: str) -> Any:
    if _TIME.fullmatch(text.strip()):
        return text
    # Config files have been checked, with their names; values, and files that they name, have not.
    check_text(text, "a value of the command line, or a file that it names")
    return get_loader("yaml")(text)


set_loader(PARSER_MODE, _load, exceptions=(yaml.YAMLError,))


# The first part of a class path, such as that of `my_callbacks.EarlyNoise`.
_MODULE = re.compile(r"(?<![\w./-])([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)+")
# What the names of paths end with: default_root_dir, dirpath, save_dir, the options of loggers and callbacks.
_ENDINGS = ("dir", "path", "folder", "file", "root")
# These are expanded where they are used; the saved config keeps them as given.
_READ_HERE = ("model.base", "data.source", "data.val_source", "data.cache_dir", "ckpt_path")


def expand_paths(config: Namespace) -> None:
    """Expand the paths of the Trainer and the checkpoints in place, and check the others.

    Raises:
        ConfigError: There is no such home folder, or a path holds a NUL character.
    """
    for key in _READ_HERE:
        if (value := config.get(key)) is not None:
            user_path(value, key)
    for number, one in enumerate(config.get("data.sources") or [], start=1):
        user_path(one.source, f"data.sources, entry {number}")
    for section in ("trainer", "checkpoint"):
        _expand(config[section], section)


def _expand(section: Any, where: str) -> None:
    for name, value in _items(section):
        key = f"{where}.{name}"
        if isinstance(value, (str, Path)):
            # The class decides whether it accepts an address.
            if str(name).endswith(_ENDINGS) and name != "class_path" and not is_address(value):
                section[name] = type(value)(user_path(value, key))
        else:
            _expand(value, key)


def _items(section: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the entries of a section or list; none of a plain value."""
    if isinstance(section, Namespace):
        yield from list(vars(section).items())
    elif isinstance(section, dict):
        yield from list(section.items())
    elif isinstance(section, list):
        yield from enumerate(section)


def resolve_configs(args: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Replace the value of each `--config` or `-c` by the path of its file.

    Args:
        args: The command line after the verb.

    Returns:
        The new command line, and the files in it, in their order.

    Raises:
        ConfigError: If a value is missing, a folder, or neither a file nor a recipe.
    """
    resolved: list[str] = []
    files: list[Path] = []
    remaining = iter(args)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        if option not in ("--config", "-c"):
            resolved.append(argument)
            continue
        if not equals:
            value = next(remaining, "")
        if not value:
            raise ConfigError(f"{option} needs a value: the path of a YAML file, or the name of a recipe")
        files.append(_file(value))
        resolved.append(f"--config={files[-1]}")
    return resolved, files


def _file(value: str) -> Path:
    path = user_path(value, "--config")
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"--config {value} is a folder; give a YAML file in it")
    return find_recipe(value)


def run_name(files: Sequence[Path]) -> str:
    """Return the name of a run: that of its last config (`model/dataset` for a recipe in a folder), or `run`."""
    return recipe_name(files[-1]) if files else "run"


def last_recipe(files: Sequence[Path]) -> str | None:
    """Return the name of the last config that is a recipe of the package, or None."""
    folder = recipes_folder().resolve()
    found = [file for file in files if file.resolve().is_relative_to(folder)]
    return recipe_name(found[-1]) if found else None


def make_local_classes_importable(texts: Sequence[str]) -> None:
    """Append the current folder to the module path if a class path names a module in it that is found nowhere else.

    `python -m` always has it there, the installed program never. It is appended, and only if needed, so that no file in
    it shadows a library.

    Args:
        texts: Words of the command line and the text of configs.
    """
    names = {name for text in texts for name in _MODULE.findall(text)}
    here = Path.cwd()
    if any(_is_module(here, name) and find_spec(name) is None for name in names):
        sys.path.append(str(here))


def _is_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
