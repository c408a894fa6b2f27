"""Write the tables of docs/recipes.md and README.md from the cards of the recipes, estimates and measured runs.

    python scripts/recipe_table.py

replaces the text between the two marks of each page; the rest is written by hand. The measured runs are those of
`benchmarks/recipe_runs.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marked_text import replaced

from lightning_neft.cli.recipe_details import hours_text, recipe_details
from lightning_neft.common.files import write_text
from lightning_neft.recipes.recipe import load_recipes

ROOT = Path(__file__).resolve().parent.parent
PAGE, README = ROOT / "docs" / "recipes.md", ROOT / "README.md"
RUNS = ROOT / "benchmarks" / "results" / "recipes"
# The cards add its generation.
PROCESSOR = "two threads of an AMD EPYC"
SCRIPT = "scripts/recipe_table.py"


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


def measured_runs() -> dict[str, dict[str, Any]]:
    """The results of `benchmarks/recipe_runs.py` by the name of the recipe."""
    found = (json.loads(file.read_text(encoding="utf-8")) for file in sorted(RUNS.rglob("*.json")))
    return {result["recipe"]: result for result in found}


def results() -> Iterator[str]:
    """The table of the measured runs in Markdown, line by line."""
    runs = measured_runs()
    date = max(run["date"] for run in runs.values())
    yield (
        f"On {PROCESSOR}, one run each, {date}; held-out losses without noise. One pair cannot show an effect of the "
        "noise."
    )
    yield ""
    heads = ["recipe", "method", "minutes", "peak GB", "tokens/s", "on", "loss before", "after, with noise"]
    heads += ["after, without"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for recipe in load_recipes():
        if recipe.name not in runs:
            continue
        noisy, plain = (runs[recipe.name]["runs"][name] for name in ("with_noise", "without_noise"))
        cells = [
            f"`{recipe.name}`",
            recipe.method,
            f"{noisy['seconds'] / 60:.1f}",
            f"{noisy['peak_memory_gb']:.1f}",
            f"{noisy['tokens_per_second']}",
            recipe.status.hardware.removeprefix(f"{PROCESSOR} ").strip("()"),
            f"{noisy['held_out_loss_before']:.3f}",
            f"{noisy['held_out_loss']:.3f}",
            f"{plain['held_out_loss']:.3f}",
        ]
        yield f"| {' | '.join(cells)} |"


def pages() -> dict[Path, str]:
    """What the pages are to contain."""
    of_page = (line for part in (results(), iter([""]), table()) for line in part)
    return {
        path: replaced(path.read_text(encoding="utf-8"), SCRIPT, lines)
        for path, lines in ((PAGE, of_page), (README, results()))
    }


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        write_text(path, text)


if __name__ == "__main__":
    main()
