"""Writes the page of results, with its plots as separate files: the work of the verb report."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

from lightning_neft.common.files import write_bytes, write_text
from lightning_neft.common.paths import check_new, check_output
from lightning_neft.errors import ConfigError
from lightning_neft.report.content import Chart, PageSection
from lightning_neft.report.inputs import Inputs, read_inputs

__all__ = ["WrittenReport", "write_report"]

# The number of characters of a page that name its sources.
_HEAD = 4096
_NEEDED = ("jinja2", "matplotlib")


@dataclass(frozen=True)
class WrittenReport:
    """What was written.

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
        DataError: A file cannot be read, or is not one of these.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"report needs {' and '.join(missing)}, not installed here: pip install 'lightning-neft[study]'"
        )
    page = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    sources = _digest(paths)
    place = check_output(page, "--out", paths)
    overwrite = overwrite or _is_of(place, sources)
    check_new(page, "--out", overwrite=overwrite)
    inputs = read_inputs(paths)
    # These imports take half a second.
    from lightning_neft.report.page import render
    from lightning_neft.report.plots.figure import LIGHT, png
    from lightning_neft.report.sections import make_sections

    sections = _with_unique_slugs(make_sections(inputs))
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    created = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    text = render(sections, title or _title(inputs), created, sources)
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


def _digest(paths: Sequence[Path]) -> str:
    """Return what identifies the page of these files."""
    return hashlib.sha256("\0".join(str(path.resolve()) for path in paths).encode(errors="surrogateescape")).hexdigest()


def _is_of(page: Path, sources: str) -> bool:
    """Return whether a file is an earlier page of the same files."""
    if not page.is_file():
        return False
    with page.open(encoding="utf-8", errors="replace") as file:
        return f'name="lightning_neft-sources" content="{sources}"' in file.read(_HEAD)


def _title(inputs: Inputs) -> str:
    if inputs.studies:
        return f"NEFTune study: {', '.join(dict.fromkeys(study.label for study in inputs.studies))}"
    labels = dict.fromkeys([*(one.label for one in inputs.results), *(file.label for file in inputs.answer_files)])
    names = list(labels)
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
