"""Recipes: configs of the program with a card, found by name. Imports nothing heavy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lightning_neft.common.config_text import compose_config, load_config
from lightning_neft.common.near_names import similar
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError
from lightning_neft.recipes.card import AlphaSource, Card, Status, read_card

__all__ = [
    "Method",
    "Recipe",
    "find_recipe",
    "load_recipe",
    "load_recipes",
    "read_card_of_file",
    "recipe_name",
    "recipe_names",
    "recipes_folder",
    "with_schema_of_package",
]

Method = Literal["full", "lora", "dora", "qlora"]

# The editor's comment in a recipe, and the path in it.
_SCHEMA_PATH = re.compile(r"(?<=^# yaml-language-server: \$schema=)\S+", re.MULTILINE)
# What defines a recipe: written out even where it equals the default. Of several keys one is enough.
_SUBJECT = (("model.base",), ("data.source", "data.sources"), ("neftune.alpha",))


@dataclass(frozen=True)
class Recipe:
    """A recipe, as in its file.

    Attributes:
        name: Such as `quickstart` or `llama-2-7b/alpaca`.
        path: Its file.
        config: All sections except the card, as written.
        card: Where the numbers come from, and how it was tested.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    card: Card

    @property
    def alpha(self) -> float:
        """Strength of the noise."""
        return float(self.config["neftune"]["alpha"])

    @property
    def base(self) -> str:
        """Folder or hub id of the base model."""
        return str(self.config["model"]["base"])

    @property
    def dataset(self) -> str:
        """Source of the data, or the sources of a mixture."""
        data = self.config["data"]
        return ", ".join(str(one["source"]) for one in data.get("sources") or [data])

    @property
    def task(self) -> str:
        """What the model learns."""
        return str(self.config.get("task", "causal_lm"))

    @property
    def method(self) -> Method:
        """Which weights are trained: all of them, or adapters."""
        model = self.config["model"]
        if model.get("lora") is None:
            return "full"
        if model.get("quantization") is not None:
            return "qlora"
        return "dora" if model["lora"].get("dora") else "lora"

    @property
    def status(self) -> Status:
        """How it was tested."""
        return self.card.status

    @property
    def alpha_source(self) -> AlphaSource:
        """Where the alpha comes from."""
        return self.card.alpha_source


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


def with_schema_of_package(text: str) -> str:
    """Return the text of a recipe for another folder: its editor's comment names the package's schema by address."""
    address = (recipes_folder() / "neft.schema.json").as_uri()
    return _SCHEMA_PATH.sub(lambda _: address, text, count=1)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Load a recipe.

    Args:
        name_or_path: Name of a bundled recipe, or the path of a file.

    Raises:
        ConfigError: If there is none, or it is not a recipe; one message lists all problems of its card.

    Example:
        >>> load_recipe("quickstart").base
        'tiny'
    """
    given = user_path(name_or_path, "recipe")
    path = given if given.is_file() else find_recipe(str(name_or_path))
    card = read_card_of_file(path)
    config = load_config(path)
    if card is None:
        raise ConfigError(f"{path}: not a recipe: the section card is missing")
    config.pop("card")
    missing = [keys[0] for keys in _SUBJECT if all(_at(config, key) is None for key in keys)]
    if missing:
        raise ConfigError(f"{path}: not a recipe: {', '.join(missing)} must be given")
    alpha = config["neftune"]["alpha"]
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < math.inf:
        raise ConfigError(f"{path}: neftune.alpha: got {alpha!r}, expected a number of 0 or more")
    return Recipe(recipe_name(path), path, config, card)


def load_recipes() -> list[Recipe]:
    """Load all bundled recipes, in alphabetical order.

    Raises:
        ConfigError: If one is wrong.
    """
    # By path, because finding one by name lists all of them.
    return [load_recipe(recipes_folder() / f"{name}.yaml") for name in recipe_names()]


def read_card_of_file(path: Path) -> Card | None:
    """Return the card of a config file, or None if it has none.

    Raises:
        ConfigError: If the file is not a YAML mapping, or its card is wrong.
    """
    root = compose_config(path)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: expected a mapping of sections such as card, model, data")
    node = next((value for key, value in root.value if key.value == "card"), None)
    # Saved configs of runs without a recipe have null.
    return None if node is None or node.tag.endswith(":null") else read_card(node, str(path))


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
