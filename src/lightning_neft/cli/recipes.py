"""The verb recipes: list, show and copy the bundled recipes."""

from __future__ import annotations

import json
import os
import shlex
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.process import check_environment
from lightning_neft.common.files import new_file
from lightning_neft.common.near_names import did_you_mean, similar
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError
from lightning_neft.recipes.card import AlphaKind, StatusKind
from lightning_neft.recipes.recipe import Recipe, find_recipe, load_recipe, load_recipes, with_schema_of_package

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["run"]

# The values that each filter is compared with; one match is enough.
_FILTERS: dict[str, Callable[[Recipe], tuple[str, ...]]] = {
    "model": lambda recipe: (recipe.card.model,),
    "dataset": lambda recipe: (recipe.dataset, recipe.name.partition("/")[2] or recipe.dataset),
    "method": lambda recipe: (recipe.method,),
    "status": lambda recipe: (recipe.status.kind,),
}
# What the words of the table mean.
_ALPHA_FROM: dict[AlphaKind, str] = {
    "paper": "a table of the NEFTune paper, for model and data",
    "cited": "other work, which the recipe's card cites",
    "default-untested": "the paper's smallest; not compared with others",
    "executed": "compared with other values in our own runs",
}
_STATUS: dict[StatusKind, str] = {
    "executed": "run in full; the card has results and differences",
    "smoke": "2 steps of a tiny random model; not run as written",
}
_GATED = "accept the terms on the hub first"


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: recipes.
        args: The command line after it: list, show or copy, and its options.

    Raises:
        ConfigError: If an option or a name is wrong, or the destination exists.
    """
    verbs = {"list": _list, "show": _show, "copy": _copy}
    what, rest = (args[0], args[1:]) if args else ("", args)
    if what not in verbs:
        hint = did_you_mean(what, verbs, f"give one of {', '.join(verbs)}")
        raise ConfigError(f"recipes: {f'unknown command {what!r}; ' if what else ''}{hint}")
    parser = VerbParser(f"{verb} {what}")
    verbs[what](parser, rest)


def _list(parser: VerbParser, args: Sequence[str]) -> None:
    for name in _FILTERS:
        parser.add_argument(f"--{name}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse(args)
    recipes = _chosen(load_recipes(), options)
    if options.json:
        print(json.dumps([_to_json(recipe) for recipe in recipes], indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    _print_table(recipes, Console())


def _chosen(recipes: list[Recipe], options: Namespace) -> list[Recipe]:
    for name, values in _FILTERS.items():
        wanted = getattr(options, name)
        if wanted is None:
            continue
        known = sorted({value for recipe in recipes for value in values(recipe)})
        # Whole names and patterns first, so that `lora` does not find `qlora`.
        recipes = _matching(recipes, values, wanted) or _matching(recipes, values, f"*{wanted}*" if wanted else "")
        if not recipes:
            near = " or ".join(similar(wanted, known))
            hint = f"did you mean {near}?" if near else f"one of {', '.join(known)}"
            raise ConfigError(f"recipes list: no recipe with --{name} {wanted}; {hint}")
    return recipes


def _matching(recipes: list[Recipe], values: Callable[[Recipe], tuple[str, ...]], pattern: str) -> list[Recipe]:
    return [one for one in recipes if any(fnmatchcase(value.lower(), pattern.lower()) for value in values(one))]


def _to_json(recipe: Recipe) -> dict[str, Any]:
    card = recipe.card
    return {
        "name": recipe.name,
        "model": card.model,
        "base": recipe.base,
        "dataset": recipe.dataset,
        "task": recipe.task,
        "alpha": recipe.alpha,
        "alpha_source": card.alpha_source.kind,
        "alpha_reference": card.alpha_source.reference,
        "method": recipe.method,
        "status": card.status.kind,
        "gated": card.gated,
        "licences": asdict(card.licences),
        "date": None if card.status.date is None else card.status.date.isoformat(),
        "versions": dict(card.status.versions),
        "hardware": card.status.hardware,
        "results": dict(card.status.results),
        "notes": card.notes,
    }


def _print_table(recipes: Sequence[Recipe], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "recipe", "alpha", "alpha from", "method", "status", "gated", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.columns[0].no_wrap = True
    for recipe in recipes:
        cells = [recipe.name, f"{recipe.alpha:g}", recipe.alpha_source.kind, recipe.method, recipe.status.kind]
        table.add_row(*map(Text, cells), "yes" if recipe.card.gated else "")
    console.print(table)
    console.print()
    console.print(_legend(recipes))
    many = f"{len(recipes)} recipe{'s' * (len(recipes) != 1)}"
    console.print(Text(f"\n{many}; lightning_neft recipes show NAME for more"), soft_wrap=True)


def _legend(recipes: Sequence[Recipe]) -> Table:
    """Return what the columns of these recipes mean, without words that they do not have."""
    from rich.table import Table

    alphas = {recipe.alpha_source.kind for recipe in recipes}
    statuses = {recipe.status.kind for recipe in recipes}
    rows: list[tuple[str, str, str]] = [
        ("alpha from", kind, meaning) for kind, meaning in _ALPHA_FROM.items() if kind in alphas
    ]
    rows += [("status", kind, meaning) for kind, meaning in _STATUS.items() if kind in statuses]
    if any(recipe.card.gated for recipe in recipes):
        rows.append(("gated", "yes", _GATED))
    legend, before = Table.grid(padding=(0, 2)), ""
    for column, word, meaning in rows:
        legend.add_row("" if column == before else column, word, meaning)
        before = column
    return legend


def _show(parser: VerbParser, args: Sequence[str]) -> None:
    parser.add_argument("name")
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse(args)
    recipe = load_recipe(options.name)
    check_environment()
    # Seconds of imports, so only now.
    from lightning_neft.cli.recipe_details import print_details, recipe_details

    details = recipe_details(recipe)
    if options.json:
        print(json.dumps({**_to_json(recipe), **details.to_json()}, indent=2, ensure_ascii=False))
    else:
        print_details(recipe, details, None if options.defaults else options.name)


def _copy(parser: VerbParser, args: Sequence[str]) -> None:
    parser.add_argument("name")
    parser.add_argument("dest", nargs="?")
    options = parser.parse(args)
    source = find_recipe(options.name)
    name = options.name.removesuffix(".yaml").replace("/", "-") + ".yaml"
    dest = user_path(options.dest or name, "DEST")
    if dest.is_dir() or (options.dest or "").endswith(("/", os.sep)):
        dest = dest / name
    _write_new(dest, with_schema_of_package(source.read_text(encoding="utf-8")).encode())
    print(
        f"{dest}\nedit it, then run: lightning_neft fit --config {shlex.quote(str(dest))}\n"
        "its card describes the original: change it too, or remove the section card"
    )


def _write_new(path: Path, content: bytes) -> None:
    """Write a new file, whole or not at all."""
    try:
        with new_file(path) as file:
            file.write(content)
    except FileExistsError:
        raise ConfigError(f"recipes copy: {path} exists; give another DEST") from None
    except OSError as error:
        raise ConfigError(f"recipes copy: {path} cannot be written: {error.strerror}; give another DEST") from error
