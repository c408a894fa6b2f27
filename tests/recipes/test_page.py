"""docs/recipes.md is of these recipes: its table is the one that the script would write now."""

from __future__ import annotations

import pytest

from estimates import known_details
from lightning_neft.recipes.recipe import load_recipes
from pages import DOCS, ROOT, script

PAGE = (DOCS / "recipes.md").read_text(encoding="utf-8")


@pytest.mark.xdist_group("estimates")
def test_the_table_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    table = script(ROOT / "scripts" / "recipe_table.py")
    monkeypatch.setattr(table, "recipe_details", known_details)
    assert table.page(PAGE) == PAGE, "run python scripts/recipe_table.py"


def test_each_recipe_has_its_row() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]
    assert [(row[0], row[2], row[3], row[4], row[6]) for row in rows] == [
        (f"`{one.name}`", one.dataset, f"{one.alpha:g}", one.alpha_source.kind, one.status.kind)
        for one in load_recipes()
    ]
