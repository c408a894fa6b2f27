"""Which files `--config` names: a path, or the recipe of that name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError
from lightning_neft.zoo.locate import find_recipe, recipe_name, recipes_folder

__all__ = ["last_recipe", "resolve_configs", "run_name"]


def resolve_configs(args: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Replace the value of each `--config` or `-c` by the path of the file that it means.

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
