"""The page: sections in HTML, with a policy that lets a browser run only the page's own script."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lightning_neft._version import __version__
from lightning_neft.common.escaping import visible
from lightning_neft.report.content import Answers, Block, Chart, Findings, Heading, Note, PageSection, Table
from lightning_neft.report.plots.figure import DARK, LIGHT, svg_address

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render"]

_KINDS: dict[type, str] = {
    Table: "table",
    Chart: "chart",
    Note: "note",
    Heading: "heading",
    Findings: "findings",
    Answers: "answers",
}


@dataclass(frozen=True)
class _Drawn:
    """A chart as the template shows it."""

    block: Chart
    id: str
    light: str
    dark: str
    alt: str
    table: Table
    kind: str = "chart"


@dataclass(frozen=True)
class _View:
    """Any other block as the template shows it."""

    block: Block
    id: str
    kind: str


def render(sections: Sequence[PageSection], title: str, created: str, sources: str) -> str:
    """Return the page.

    Args:
        sections: What it shows.
        title: Its title.
        created: When it was made, as text.
        sources: Digest of the input paths; identifies the page when it is written again.
    """
    from markupsafe import Markup

    # The package's own files, the only texts that are not escaped.
    style, script = Markup(_own("style.css")), Markup(_own("script.js"))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            created=created,
            sources=sources,
            version=__version__,
            policy=_policy(style, script),
            style=style,
            script=script,
            sections=[_section(section) for section in sections],
        )
    )


def _own(name: str) -> str:
    return (files("lightning_neft.report") / "template" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def allowed(text: str) -> str:
        return f"'sha256-{b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"

    return (
        f"default-src 'none'; style-src {allowed(style)}; script-src {allowed(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def readable(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return Environment(
        loader=PackageLoader("lightning_neft.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=readable,
        trim_blocks=True,
    )


def _section(section: PageSection) -> dict[str, Any]:
    views = [_view(block, f"{section.slug}-{index}") for index, block in enumerate(section.blocks, 1)]
    return {"slug": section.slug, "title": section.title, "lead": section.lead, "runs": _runs(views)}


def _runs(views: Sequence[_Drawn | _View]) -> list[list[_Drawn | _View]]:
    """Group consecutive charts, which are shown side by side if there is room."""
    runs: list[list[_Drawn | _View]] = []
    for view in views:
        if runs and view.kind == "chart" == runs[-1][-1].kind:
            runs[-1].append(view)
        else:
            runs.append([view])
    return runs


def _view(block: Block, name: str) -> _Drawn | _View:
    if not isinstance(block, Chart):
        return _View(block, name, _KINDS[type(block)])
    return _Drawn(
        block,
        name,
        svg_address(block.plot, LIGHT),
        svg_address(block.plot, DARK),
        block.plot.sentence(),
        block.plot.table(block.title),
    )
