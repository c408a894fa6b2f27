"""What the theme and the writers of tables leave out for screen readers, put right in the pages as they are written."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

__all__ = ["give_levels", "setup"]

# The corner of a table, which heads no column: an empty head is read aloud as one.
_EMPTY_HEAD, _CELL = '<th class="head"><p></p></th>', "<td></td>"
# A section of the navigation: its caption, then its list up to the next caption.
_SECTION = re.compile(
    r'<p class="caption" role="heading">(.*?)</p>\s*(<ul.*?</ul>)(?=\s*(?:<p class="caption"|</div>|$))', re.DOTALL
)
_FOLDED = '<details{}><summary><span class="caption" role="heading" aria-level="2">{}</span></summary>{}</details>'


def give_levels(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Fold the sections of the navigation, with the level that a heading's role asks for; make empty heads plain cells.

    All captions are then seen at once. The section of the page is open, on pages of none the first one.
    """
    if "furo_navigation_tree" in context:
        sections = _SECTION.findall(context["furo_navigation_tree"])
        shown = next((number for number, (_, pages) in enumerate(sections) if "current" in pages), 0)
        context["furo_navigation_tree"] = "".join(
            _FOLDED.format(" open" if number == shown else "", caption, pages)
            for number, (caption, pages) in enumerate(sections)
        )
    if "body" in context:
        context["body"] = context["body"].replace(_EMPTY_HEAD, _CELL)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell sphinx of it: after the theme, which makes the navigation at the usual priority."""
    app.connect("html-page-context", give_levels, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
