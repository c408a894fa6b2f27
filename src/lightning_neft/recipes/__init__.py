"""Recipes: their cards, configs, estimated time and stand-in data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.recipes.recipe import Recipe, load_recipe, load_recipes

__all__ = ["Recipe", "load_recipe", "load_recipes"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Recipe": "recipe",
        "load_recipe": "recipe",
        "load_recipes": "recipe",
    },
)
