"""Writes the page: sections as HTML, under a policy that lets a browser run only its own script, and plots as PNG."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.resources import files
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft._version import __version__
from lightning_neft.common.escaping import visible
from lightning_neft.common.files import write_bytes, write_text
from lightning_neft.common.paths import check_new, check_output
from lightning_neft.errors import ConfigError
from lightning_neft.report.content import Block, Chart, PageSection
from lightning_neft.report.figure import DARK, LIGHT, png, svg_address
from lightning_neft.report.headline import headlines
from lightning_neft.report.inputs import Inputs, read_inputs

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["WrittenReport", "render", "write_report"]

# Length of the part of a page that names its sources.
_HEAD = 4096
_NEEDED = ("jinja2", "matplotlib")


@dataclass(frozen=True)
class WrittenReport:
    """The files of a report.

    Attributes:
        page: The page.
        plots: The pictures next to it.
    """

    page: Path
    plots: Sequence[Path]


def write_report(
    paths: Sequence[Path], out: Path, title: str | None = None, *, overwrite: bool = False
) -> WrittenReport:
    """Write a report.

    Args:
        paths: Results of evaluate and study, and answer files.
        out: The page if it ends in .html, else the folder for report.html.
        title: Of the page; by default made from the labels of studies and results.
        overwrite: Whether existing files may be replaced; an earlier page of the same paths always may.

    Raises:
        ConfigError: The extra study is not installed, or the page cannot be written there, or another file is there.
        DataError: A file cannot be read, or is neither a result nor an answer file.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"report needs {' and '.join(missing)}, not installed here: pip install 'lightning-neft[study]'"
        )
    page = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    # Identifies the page of these files when it is written again.
    resolved = "\0".join(str(path.resolve()) for path in paths)
    sources = hashlib.sha256(resolved.encode(errors="surrogateescape")).hexdigest()
    place = check_output(page, "--out", paths)
    overwrite = overwrite or _is_of(place, sources)
    check_new(page, "--out", overwrite=overwrite)
    inputs = read_inputs(paths)
    # This import takes half a second.
    from lightning_neft.report.sections import make_sections

    sections = _with_unique_slugs(make_sections(inputs))
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    created = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    text = render(sections, title or _title(inputs), created, sources, headlines(inputs))
    plots = [page.with_name(f"{page.stem}-{chart.slug}.png") for chart in charts]
    for plot in plots:
        check_new(plot, "--out", overwrite=overwrite, inputs=paths)
    try:
        # The page first: it identifies the plots next to it.
        write_text(place, text)
        for chart, plot in zip(charts, plots, strict=True):
            write_bytes(plot, png(chart.plot, LIGHT))
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {page}: {error.strerror or error}") from error
    return WrittenReport(page, plots)


def _is_of(page: Path, sources: str) -> bool:
    """Return whether a file is an earlier page of the same files."""
    if not page.is_file():
        return False
    with page.open(encoding="utf-8", errors="replace") as file:
        return f'name="lightning_neft-sources" content="{sources}"' in file.read(_HEAD)


def _title(inputs: Inputs) -> str:
    if inputs.studies:
        return f"NEFTune study: {', '.join(dict.fromkeys(study.label for study in inputs.studies))}"
    labels = [*(one.label for one in inputs.results), *(file.label for file in inputs.answer_files)]
    names = list(dict.fromkeys(labels))
    return f"Report: {', '.join(names[:4])}{' and others' if len(names) > 4 else ''}"


def _with_unique_slugs(sections: Sequence[PageSection]) -> list[PageSection]:
    """Make names unique and valid in files: several studies have the same charts, and some names come from inputs."""
    met: dict[str, int] = {}

    def renamed(chart: Chart) -> Chart:
        slug = re.sub(r"[^\w-]+", "-", chart.slug)
        met[slug] = met.get(slug, 0) + 1
        return replace(chart, slug=slug if met[slug] == 1 else f"{slug}-{met[slug]}")

    return [
        replace(section, blocks=[renamed(block) if isinstance(block, Chart) else block for block in section.blocks])
        for section in sections
    ]


def render(sections: Sequence[PageSection], title: str, created: str, sources: str, answers: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        sections: Its sections.
        title: Its title.
        created: When it was made, as text.
        sources: Digest of the input paths; identifies the page when it is written again.
        answers: What the page shows, a sentence for each study; the first text on it.
    """
    from markupsafe import Markup

    # The package's own files, the only texts that are not escaped.
    style, script = Markup(_own("style.css")), Markup(_own("script.js"))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            answers=answers,
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
    """Return a section for the template; consecutive charts are one run, side by side if there is room."""
    views = [_view(block, f"{section.slug}-{index}") for index, block in enumerate(section.blocks, 1)]
    by_run = groupby(enumerate(views), lambda item: "chart" if item[1]["kind"] == "chart" else item[0])
    runs = [[view for _, view in run] for _, run in by_run]
    return {"slug": section.slug, "title": section.title, "lead": section.lead, "runs": runs}


def _view(block: Block, name: str) -> dict[str, Any]:
    view: dict[str, Any] = {"kind": block.kind, "block": block, "id": name}
    if isinstance(block, Chart):
        plot = block.plot
        view |= {"light": svg_address(plot, LIGHT), "dark": svg_address(plot, DARK)}
        view |= {"alt": plot.sentence(), "table": plot.table(block.title)}
    return view
