"""Write the table of docs/recipes.md from the cards of the recipes and the formulas of the estimates.

    python scripts/recipe_table.py

replaces the text between the two marks of the page; the rest is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_neft.cli.recipe_details import hours_text, recipe_details
from lightning_neft.common.files import write_text
from lightning_neft.recipes.recipe import load_recipes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
BEGIN, END = "<!-- made by scripts/recipe_table.py -->", "<!-- end -->"


def table() -> Iterator[str]:
    """The table in Markdown, line by line."""
    recipes = load_recipes()
    executed = sum(recipe.status.kind == "executed" for recipe in recipes)
    yield f"{len(recipes)} recipes: {executed} executed, {len(recipes) - executed} smoke."
    yield ""
    heads = ["recipe", "base model", "data", "alpha", "alpha from", "method", "status"]
    heads += ["GB per device, estimated", "hours on A100s, at most"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for recipe in recipes:
        details = recipe_details(recipe)
        devices = "" if details.devices == 1 else f" x {details.devices}"
        hours = "" if details.hours is None else hours_text(details.hours)
        gated = " (gated)" if recipe.card.gated else ""
        cells = [
            f"`{recipe.name}`",
            f"{recipe.base}{gated}",
            recipe.dataset,
            f"{recipe.alpha:g}",
            recipe.alpha_source.kind,
            recipe.method,
            recipe.status.kind,
            f"{details.estimate.total / 1e9:.1f}{devices}",
            hours,
        ]
        yield f"| {' | '.join(cells)} |"


def page(text: str) -> str:
    """The page with a new table in place of the one between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(table())
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
