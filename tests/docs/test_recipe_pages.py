"""Each recipe has its page on the site, with all of its card, and estimates named as such."""

from __future__ import annotations

import re

import pytest

from estimates import known_details
from lightning_neft.hub.base_models import find_base_model
from lightning_neft.recipes.recipe import Recipe, load_recipe, recipe_names
from pages import DOCS, LINK, ROOT, extension, is_reviewed

pytestmark = pytest.mark.xdist_group("estimates")


@pytest.fixture(scope="module", params=recipe_names())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return load_recipe(request.param)


@pytest.fixture(scope="module")
def page(recipe: Recipe) -> str:
    pages = extension("recipe_pages")
    pages.recipe_details = known_details
    return pages.page(recipe, f"/{recipe.name}.yaml")


def test_page_has_all_of_the_card(recipe: Recipe, page: str) -> None:
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", page)
    card, model = recipe.card, find_base_model(recipe.card.model)
    said = [card.licences.model, card.licences.data, card.alpha_source.reference, card.notes, card.status.hardware]
    said += [f"Alpha is {recipe.alpha:g}.", f"`{card.alpha_source.kind}`", f"`{card.status.kind}`", model.notes]
    said += [str(card.status.date), recipe.base, recipe.dataset, *card.status.versions.values()]
    said += [f"| {name} | {value} |" for name, value in card.status.results.items()]
    assert not [one for one in said if one not in text]
    assert ("Gated: accept the terms" in text) == card.gated
    assert ("it was not run as written" in text) == (card.status.kind == "smoke")


def test_page_shows_the_file_and_its_commands(recipe: Recipe, page: str) -> None:
    assert f"```{{literalinclude}} /{recipe.name}.yaml" in page
    head = recipe.path.read_text(encoding="utf-8").partition("card:")[0]
    commands = re.findall(r"^# +(lightning_neft .*?)(?: {3,}.*)?$", head, re.MULTILINE)
    assert commands
    assert not [command for command in commands if not re.search(rf"^\$ {re.escape(command)}(?: {{6}}#|$)", page, re.M)]


def test_page_names_estimates_as_such(recipe: Recipe, page: str) -> None:
    (section,) = re.findall(r"^## Memory and time\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert "[these formulas](/explanation/estimates.md), not measured" in section
    assert "GB per device, estimated" in section
    assert "Time: estimated at most" in section or "Time: not estimated" in section


def test_page_links_to_reviewed_hosts(recipe: Recipe, page: str) -> None:
    outside = [target for target in LINK.findall(page) if not target.startswith("/")]
    assert outside or recipe.name.startswith("quickstart")
    assert not [target for target in outside if not is_reviewed(target)]


def test_table_links_to_the_pages_only_on_the_site() -> None:
    text = [(DOCS / "recipes.md").read_text(encoding="utf-8")]
    assert "](recipes/" not in text[0]
    link_table = extension("recipe_pages").link_table
    link_table(None, "recipes", text)
    linked = re.findall(r"^\| \[`([^`]+)`\]\(recipes/(.+)\.md\) \|", text[0], re.MULTILINE)
    # The table of measured runs has some of them too.
    assert set(linked) == {(name, name) for name in recipe_names()}
    other = ["| `quickstart` |"]
    link_table(None, "index", other)
    assert other == ["| `quickstart` |"]


def test_the_pages_are_not_kept_in_the_repository() -> None:
    assert "docs/recipes/\n" in (ROOT / ".gitignore").read_text(encoding="utf-8")
