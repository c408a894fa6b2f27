"""Offers each tutorial as a notebook: made from its page when the site is built, linked below its title."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jupytext
from docutils import nodes
from sphinx.application import Sphinx

from lightning_neft import __version__

__all__ = ["link_notebook", "notebook", "setup", "write_notebooks"]

_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Other pages of the site, which a notebook does not have beside it.
_PAGE_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)[^)\s]+\)")
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(page: Path) -> Any:
    """Return the notebook of a page: its `python` blocks, and the commands of its `console` blocks behind a `!`.

    Nothing is run, so that cells have no outputs; what the page shows as printed stays as text.
    """
    made = jupytext.reads(_CONSOLE.sub(_shell_cell, page.read_text(encoding="utf-8")), fmt="md")
    title, _, text = made.cells[0].source.partition("\n")
    made.cells[0].source = (
        f"{title}\n\n*From the documentation of lightning_neft {__version__}. Start it in an environment where the "
        f"package is installed, in an empty folder: it writes files.*\n{text}"
    )
    for number, cell in enumerate(made.cells):
        # Those that nbformat draws would make each build another one.
        cell.id = f"cell-{number}"
        if cell.cell_type == "markdown":
            cell.source = _PAGE_LINK.sub(r"\1", cell.source)
    made.metadata = type(made.metadata)(kernelspec=_KERNEL, language_info={"name": "python"})
    return made


def _shell_cell(block: re.Match[str]) -> str:
    commands = [line.removeprefix("$ ") for line in block[1].splitlines() if line.startswith("$ ")]
    return "\n".join(["```python", *(f"!{command}" for command in commands), "```"])


def link_notebook(app: Sphinx, doctree: nodes.document) -> None:
    """Put the link below the title of a tutorial."""
    name = app.env.docname
    if name.startswith("tutorials/"):
        link = f'<p><a href="{name.rpartition("/")[2]}.ipynb" download>Download as a notebook</a></p>'
        title = next(doctree.findall(nodes.title))
        title.parent.insert(title.parent.index(title) + 1, nodes.raw("", link, format="html"))


def write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Write the notebooks beside the pages of the site."""
    if exception is None and app.builder.format == "html":
        for page in sorted(Path(app.srcdir, "tutorials").glob("*.md")):
            jupytext.write(notebook(page), Path(app.outdir, "tutorials", f"{page.stem}.ipynb"), fmt="ipynb")


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell sphinx of both."""
    app.connect("doctree-read", link_notebook)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
