"""What the theme and the writers of tables leave out for screen readers, put right in the pages as they are written."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

__all__ = ["give_levels", "setup"]

# The corner of a table, which heads no column: an empty head is read aloud as one.
_EMPTY_HEAD, _CELL = '<th class="head"><p></p></th>', "<td></td>"
_CAPTION = '<p class="caption" role="heading"'


def give_levels(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the captions of the navigation the level that their role asks for, and make empty heads plain cells."""
    if "furo_navigation_tree" in context:
        tree = context["furo_navigation_tree"]
        context["furo_navigation_tree"] = tree.replace(_CAPTION, f'{_CAPTION} aria-level="2"')
    if "body" in context:
        context["body"] = context["body"].replace(_EMPTY_HEAD, _CELL)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell sphinx of it: after the theme, which makes the navigation at the usual priority."""
    app.connect("html-page-context", give_levels, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
