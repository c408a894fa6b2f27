"""Recipes by name."""

from __future__ import annotations

import pytest

from lightning_neft.errors import ConfigError
from lightning_neft.recipes.recipe import find_recipe, recipe_name, recipe_names, recipes_folder


def test_every_file_of_the_folder_has_a_name_and_is_found_by_it():
    files = sorted(recipes_folder().rglob("*.yaml"))
    assert sorted(map(find_recipe, recipe_names())) == files
    assert "quickstart" in recipe_names()
    assert find_recipe("quickstart.yaml") == find_recipe("quickstart")


def test_a_name_has_the_folder_of_a_recipe_and_no_other(tmp_path):
    assert recipe_name(recipes_folder() / "opt-6.7b" / "alpaca.yaml") == "opt-6.7b/alpaca"
    assert recipe_name(tmp_path / "opt-6.7b" / "alpaca.yaml") == "alpaca"


def test_an_unknown_name_has_near_ones_in_its_message():
    with pytest.raises(ConfigError, match=r"'quikstart' is neither a file .* nor a recipe; recipes: quickstart"):
        find_recipe("quikstart")
