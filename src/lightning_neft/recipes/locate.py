"""Find the bundled recipes by name. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from lightning_neft.common.near_names import similar
from lightning_neft.errors import ConfigError

__all__ = ["find_recipe", "recipe_name", "recipe_names", "recipes_folder"]


def recipes_folder() -> Path:
    """Return the folder of the recipes: in the installed package, or next to `src` in a source tree.

    Raises:
        ConfigError: If neither exists.
    """
    installed = Path(__file__).with_name("bundled")
    for folder in (installed, Path(__file__).parents[3] / "recipes"):
        if folder.is_dir():
            return folder
    raise ConfigError(f"the package was installed without its recipes (expected in {installed}); reinstall it")


def recipe_names() -> list[str]:
    """Return the names of all recipes, such as `quickstart` or `model/dataset`, in alphabetical order."""
    return sorted(recipe_name(path) for path in recipes_folder().rglob("*.yaml"))


def recipe_name(path: Path) -> str:
    """Return the name of a config file: `model/dataset` for a bundled recipe, else the name of the file alone."""
    path, folder = path.resolve().with_suffix(""), recipes_folder().resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def find_recipe(name: str) -> Path:
    """Return the file of a recipe.

    Args:
        name: Its name, with or without `.yaml`.

    Raises:
        ConfigError: If there is none of this name; the message lists the nearest names.
    """
    names = recipe_names()
    wanted = name.removesuffix(".yaml")
    if wanted in names:
        return recipes_folder() / f"{wanted}.yaml"
    near = similar(wanted, names) or names[:5]
    raise ConfigError(
        f"{name!r} is neither a file (from {Path.cwd()}) nor a recipe; recipes: {', '.join(near)}; "
        "lightning_neft recipes list shows all"
    )
