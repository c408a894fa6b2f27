"""Pages of the recipes in docs/recipes/, written from card and file before sphinx reads them; not kept in git."""

from __future__ import annotations

import os
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sphinx.application import Sphinx

from lightning_neft.cli.recipe_details import hours_text, recipe_details
from lightning_neft.common.files import write_text
from lightning_neft.data.catalogue import CatalogueEntry, find_entry
from lightning_neft.hub.base_models import find_base_model
from lightning_neft.recipes.recipe import Recipe, load_recipes

__all__ = ["link_table", "page", "setup", "write_pages"]

FOLDER = "recipes"
METHODS = {
    "full": "all weights are trained",
    "lora": "LoRA: adapters are trained, the weights stay frozen",
    "dora": "DoRA: adapters and the magnitudes of the weight columns are trained",
    "qlora": "QLoRA: adapters are trained on 4-bit weights; needs the extra `qlora` and a CUDA device",
}
_PAPER = re.compile(r"arXiv (\d{4}\.\d{5})")
_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def page(recipe: Recipe, file: str) -> str:
    """The page in Markdown.

    Args:
        recipe: The recipe.
        file: Path of its file, relative to `docs`.
    """
    about, commands = _head(recipe.path.read_text(encoding="utf-8"))
    details, entry = recipe_details(recipe), find_entry(recipe.dataset)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, of our own files
    )
    model = find_base_model(recipe.card.model)
    return templates.get_template("recipe_page.md.jinja").render(
        recipe=recipe,
        card=recipe.card,
        model=model,
        entry=entry,
        details=details,
        short=hours_text,
        weights=f"{model.parameters:,}" if model.parameters < 1e6 else f"{model.parameters / 1e6:,.0f} million",
        method=METHODS[recipe.method],
        alpha_means=_meaning("alpha from", recipe.alpha_source.kind),
        status_means=_meaning("status", recipe.status.kind),
        versions=", ".join(f"{name} {version}" for name, version in recipe.status.versions.items()),
        about=about,
        commands=commands,
        file=file,
        model_link=_hub_link("", recipe.base),
        data_link=None if entry is None else _data_link(entry),
        with_papers=lambda text: _PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text),
    )


def write_pages(app: Sphinx) -> None:
    """Write the pages that changed, and remove those of deleted recipes."""
    folder = Path(app.srcdir) / FOLDER
    pages = {folder / f"{recipe.name}.md": recipe for recipe in load_recipes()}
    for gone in set(folder.rglob("*.md")) - set(pages):
        gone.unlink()
    if app.builder.name == "doctest" and all(path.is_file() for path in pages):
        return  # they have no doctests, and `make docs` has just written them
    for path, recipe in pages.items():
        text = page(recipe, f"/{os.path.relpath(recipe.path, app.srcdir)}")
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)


def link_table(app: Sphinx, docname: str, source: list[str]) -> None:
    """Link the names in the table of all recipes to their pages, which exist only on the site."""
    if docname == "recipes":
        source[0] = _ROW.sub(rf"| [`\1`]({FOLDER}/\1.md) |", source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both with sphinx."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", link_table)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _head(text: str) -> tuple[str, list[str]]:
    """The description and the commands in the comment at the top of a recipe's file."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("# yaml-language-server:"):  # for editors
            continue
        lines.append(line.removeprefix("#").removeprefix(" "))
    about = " ".join(line for line in lines if not line.startswith("  ")).strip()
    commands = [line.strip() for line in lines if line.startswith("  lightning_neft ")]
    return about, [re.sub(r" {3,}(?=\S)", "      # ", command) for command in commands]


def _meaning(table: str, word: str) -> str:
    """The meaning of a word by a table of docs/recipes.md."""
    text = (Path(__file__).parent.parent / "recipes.md").read_text(encoding="utf-8")
    rows = text.partition(f"\n| {table} | ")[2].partition("\n\n")[0]
    return re.findall(rf"^\| {word} \| (.+) \|$", rows, re.MULTILINE)[0]


def _hub_link(kind: str, name: str) -> str:
    """A link to a model or dataset on the hub; bundled ones have none."""
    return f"[{name}](https://huggingface.co/{kind}{name})" if "/" in name else f"`{name}`, bundled"


def _data_link(entry: CatalogueEntry) -> str:
    """A link to where a dataset is published: its page on the hub, or its file elsewhere."""
    if entry.source.startswith("https://"):
        return f"[its file]({entry.source}/{entry.files[entry.split]})"
    return _hub_link("datasets/", entry.source)
