"""What is computed from a recipe, once for all tests that show it; those are in one xdist group, for one worker."""

from __future__ import annotations

from functools import cache

from lightning_neft.cli.recipe_details import Details, recipe_details
from lightning_neft.recipes.recipe import Recipe, load_recipe


def known_details(recipe: Recipe) -> Details:
    """Return the details of a bundled recipe, in place of `recipe_details`."""
    return _details(recipe.name)


@cache
def _details(name: str) -> Details:
    return recipe_details(load_recipe(name))
