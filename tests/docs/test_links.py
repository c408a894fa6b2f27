"""Relative links of README and pages lead somewhere, and commands that the pages show have options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_neft.cli.help import VERBS, static_help
from pages import DOCS, LINK, ROOT, is_reviewed

# Without those that are made of the recipes' cards when the site is built.
MADE = {DOCS / "_build", DOCS / "recipes"}
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in DOCS.rglob("*.md") if not MADE & set(page.parents))])
_COMMAND = re.compile(r"^(?:\$ |    )(lightning_neft \w.*)$", re.MULTILINE)
# Verbs whose options are listed whole in their help; those of fit are as many as its config has keys.
_LISTED = ("recipes", "report", "export", "generate")


def links(page: Path) -> Iterator[str]:
    """Targets that are no addresses."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from (target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target))


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and myst make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = re.sub(r" \\\n\s*", " ", page.read_text(encoding="utf-8"))
        found += [(page.relative_to(ROOT).as_posix(), command) for command in _COMMAND.findall(text)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in slugs(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_addresses_lead_to_hosts_that_were_reviewed(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert not [target for target in targets if re.match(r"[a-z]+:", target) and not is_reviewed(target)]


@pytest.mark.parametrize(
    "address",
    [
        "http://arxiv.org/abs/2310.05914",
        "https://arxiv.org/abs/2310.0591",
        "https://arxiv.org/abs/2310.05914)",
        "https://github.com/Lightning-AI/pytorch-lightning/issues/",
        "https://huggingface.co/tiny",
        "https://example.com/",
    ],
)
def test_addresses_with_mistakes_are_not_taken(address: str) -> None:
    assert not is_reviewed(address)


def test_there_are_links_to_check() -> None:
    assert len(list(links(DOCS / "index.md"))) >= 5
    assert "the-program" not in slugs(DOCS / "index.md")
    assert "install" in slugs(DOCS / "index.md")


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_have_verbs_and_options_that_exist(page: str, command: str) -> None:
    _, verb, *args = shlex.split(command, comments=True)
    assert verb in VERBS or verb == "VERB", command
    if verb not in _LISTED:
        return
    text = static_help([verb, "--help"])
    assert text is not None
    for option in (arg.partition("=")[0] for arg in args if arg.startswith("--")):
        # Where there is a config, its keys are options too; those have a dot.
        is_key = "--config" in args and "." in option
        assert is_key or re.search(rf"{re.escape(option)}(?![\w-])", text), command
