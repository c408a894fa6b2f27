"""docs/recipes.md and README.md are of these recipes: their tables are those that the script would write now."""

from __future__ import annotations

from types import ModuleType

import pytest

from estimates import known_details
from lightning_neft.cli import precision
from lightning_neft.cli.recipe_details import recipe_details
from lightning_neft.recipes.recipe import load_recipe, load_recipes
from pages import DOCS, ROOT, script

PAGE = (DOCS / "recipes.md").read_text(encoding="utf-8")
# The titles of the first three columns of the table of all recipes.
TITLES = ["recipe", "base model", "data"]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return script(ROOT / "scripts" / "recipe_table.py")


@pytest.mark.xdist_group("estimates")
def test_the_tables_are_current(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "recipe_details", known_details)
    for path, text in tables.pages().items():
        assert path.read_text(encoding="utf-8") == text, "run python scripts/recipe_table.py"


def test_an_estimate_does_not_depend_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bfloat16", lambda device: (False, "it has none"))
    details = recipe_details(load_recipe("smollm2-135m-instruct/dolly-3k"))
    assert (details.run.precision, details.config["trainer"]["precision"]) == ("bf16-mixed", None)


def test_each_recipe_has_its_row() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("|")]
    (head,) = [number for number, row in enumerate(rows) if row[:3] == TITLES]
    table = [row for row in rows[head:] if row[0].startswith("`") and len(row) == len(rows[head])]
    assert [(row[0], row[2], row[3], row[4], row[6]) for row in table] == [
        (f"`{one.name}`", one.dataset, f"{one.alpha:g}", one.alpha_source.kind, one.status.kind)
        for one in load_recipes()
    ]


def test_an_executed_card_has_the_measured_results(tables: ModuleType) -> None:
    executed = {one.name: one.status for one in load_recipes() if one.status.kind == "executed" and "/" in one.name}
    runs = tables.measured_runs()
    assert executed.keys() == runs.keys()
    for name, status in executed.items():
        found = runs[name]
        noisy, plain = found["runs"]["with_noise"], found["runs"]["without_noise"]
        sums = {f"{key}_sha256": value for key, value in found["sha256"].items()}
        assert status.results == {**noisy, "held_out_loss_without_noise": plain["held_out_loss"], **sums}
        assert str(status.date) == found["date"]
        assert status.versions.items() <= found["machine"]["versions"].items()
