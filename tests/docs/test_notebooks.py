"""The notebooks of the tutorials are valid, and have the code of their pages, the text and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pages import DOCS, blocks

pytest.importorskip("jupytext", reason="needs the extra docs")
import nbformat
from notebooks import notebook
from sphinx.application import Sphinx

TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
each_tutorial = pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)


def cells(page: Path, kind: str) -> list[str]:
    return [cell.source for cell in notebook(page).cells if cell.cell_type == kind]


@each_tutorial
def test_a_notebook_is_valid_and_the_same_at_each_build(page: Path) -> None:
    made = notebook(page)
    nbformat.validate(made)
    assert made == notebook(page)
    assert made.metadata.kernelspec["language"] == "python"


@each_tutorial
def test_code_cells_are_the_code_blocks_of_the_page(page: Path) -> None:
    expected = [
        block.text.strip() if block.language == "python" else re.sub(r"^\$ ", "!", block.text.strip(), flags=re.M)
        for block in blocks(page)
        if block.language in ("python", "console")
    ]
    assert len(expected) > 1
    assert cells(page, "code") == expected


@each_tutorial
def test_a_notebook_has_its_pages_text_and_no_dead_link(page: Path) -> None:
    text = "\n".join(cells(page, "markdown"))
    without_code = re.sub(r"^```(?:python|console)\n.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    words = re.sub(r"\]\([^)]*\)|[\[\]]", "", without_code).split()
    found = iter(re.sub(r"\]\([^)]*\)|[\[\]]", "", text).split())
    assert [word for word in words if word not in found] == []
    assert not re.findall(r"\]\((?!https?:)[^)]*\)", text)


def test_the_site_links_a_notebook_from_each_tutorial(tmp_path: Path) -> None:
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "index.md").write_text("# Site\n\n```{toctree}\ntutorials/first\n```\n")
    (tmp_path / "tutorials" / "first.md").write_text("# First\n\n[The site](../index.md)\n\n```python\n1 + 1\n```\n")
    (tmp_path / "conf.py").write_text('extensions = ["myst_parser", "notebooks"]\n')
    Sphinx(tmp_path, tmp_path, tmp_path / "html", tmp_path / "trees", "html", status=None, warningiserror=True).build()
    made = json.loads((tmp_path / "html" / "tutorials" / "first.ipynb").read_text("utf-8"))
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown", "code"]
    page = (tmp_path / "html" / "tutorials" / "first.html").read_text("utf-8")
    assert '<a href="first.ipynb" download>' in page
    assert ".ipynb" not in (tmp_path / "html" / "index.html").read_text("utf-8")
