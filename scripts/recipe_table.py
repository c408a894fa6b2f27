"""Write the tables of docs/recipes.md from the cards of the recipes and the formulas of the estimates.

    python scripts/recipe_table.py

replaces what stands between the two marks of the page; the text around them is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_neft.cli.recipe_details import hours_text, recipe_details
from lightning_neft.files import write_text
from lightning_neft.zoo.base_models import find_base_model
from lightning_neft.zoo.recipe import Recipe, load_recipes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
BEGIN, END = "<!-- made by scripts/recipe_table.py -->", "<!-- end -->"


def tables() -> str:
    """The tables in Markdown."""
    recipes = load_recipes()
    executed = [recipe for recipe in recipes if recipe.status.kind == "executed"]
    smoke = [recipe for recipe in recipes if recipe.status.kind == "smoke"]
    lines = [*_all(recipes, len(executed), len(smoke)), "", *_executed(executed), "", *_sources(recipes)]
    return "\n".join(lines)


def _all(recipes: list[Recipe], executed: int, smoke: int) -> Iterator[str]:
    yield f"{len(recipes)} recipes: {executed} executed, {smoke} smoke."
    yield ""
    heads = ["recipe", "base model", "data", "alpha", "alpha from", "method", "status"]
    heads += ["GB a device, estimated", "hours on A100s, at most"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for recipe in recipes:
        details = recipe_details(recipe)
        devices = "" if details.run.devices == 1 else f" x {details.run.devices}"
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


def _executed(recipes: list[Recipe]) -> Iterator[str]:
    yield "Measured:"
    yield ""
    for recipe in recipes:
        status = recipe.status
        results = ", ".join(f"{name} {value}" for name, value in status.results.items())
        versions = ", ".join(f"{name} {value}" for name, value in status.versions.items())
        yield f"- `{recipe.name}`, {status.date}, {status.hardware}; {versions}: {results}"


def _sources(recipes: list[Recipe]) -> Iterator[str]:
    yield "Where the alphas come from, and what to know:"
    yield ""
    for recipe in recipes:
        if recipe.alpha_source.kind in ("paper", "cited"):
            notes = f" {recipe.card.notes}" if recipe.card.notes else ""
            yield f"- `{recipe.name}`: {recipe.alpha_source.reference}.{notes}"
    yield ""
    yield "Licences of the base models as far as they are known; the hub itself was not asked:"
    yield ""
    for name in sorted({recipe.card.model for recipe in recipes}):
        model = find_base_model(name)
        notes = f" {model.notes}" if model.notes else ""
        yield f"- {model.hub_id}: {model.licence}.{notes}"


def page(text: str) -> str:
    """The page with new tables in place of those between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
