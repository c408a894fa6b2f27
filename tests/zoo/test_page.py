"""docs/recipes.md is of these recipes: its tables are those that the script would write now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lightning_neft.zoo.recipe import load_recipes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def test_the_tables_are_current() -> None:
    spec = importlib.util.spec_from_file_location("recipe_table", ROOT / "scripts" / "recipe_table.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.page(PAGE) == PAGE, "run python scripts/recipe_table.py"


def test_each_recipe_has_its_row() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]
    assert [(row[0], row[2], row[3], row[4], row[6]) for row in rows] == [
        (f"`{one.name}`", one.dataset, f"{one.alpha:g}", one.alpha_source.kind, one.status.kind)
        for one in load_recipes()
    ]
