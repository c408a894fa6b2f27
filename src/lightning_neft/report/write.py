"""Reads results and writes their page with its plots beside it: what the verb report does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

from lightning_neft.common.files import write_bytes, write_text
from lightning_neft.errors import ConfigError
from lightning_neft.report.content import Chart, Section
from lightning_neft.report.inputs import Inputs, read_inputs

__all__ = ["WrittenReport", "write_report"]

_NEEDED = ("jinja2", "matplotlib")


@dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Attributes:
        page: The page.
        plots: The pictures beside it.
    """

    page: Path
    plots: Sequence[Path]


def write_report(paths: Sequence[Path], out: Path, title: str | None = None) -> WrittenReport:
    """Write a report.

    Args:
        paths: Results of evaluate and study, and files of answers.
        out: The page, if it ends in .html, or the folder for a page named report.html.
        title: Of the page; made of the studies' and results' labels where None.

    Raises:
        ConfigError: The extra study is not installed, or the page cannot be written there.
        DataError: A file cannot be read, or is none of these.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"report needs {' and '.join(missing)}, not installed here: pip install 'lightning-neft[study]'"
        )
    inputs = read_inputs(paths)
    # Half a second of imports, so only now.
    from lightning_neft.report.page import render
    from lightning_neft.report.plots.render import png
    from lightning_neft.report.plots.theme import LIGHT
    from lightning_neft.report.sections import make_sections

    page = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    sections = _with_unique_slugs(make_sections(inputs))
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    created = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    text = render(sections, title or _title(inputs), created)
    try:
        plots = []
        for chart in charts:
            plots.append(page.with_name(f"{page.stem}-{chart.slug}.png"))
            write_bytes(plots[-1], png(chart.plot, LIGHT))
        write_text(page, text)
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {page}: {error.strerror or error}") from error
    return WrittenReport(page, plots)


def _title(inputs: Inputs) -> str:
    if inputs.studies:
        return f"NEFTune study: {', '.join(dict.fromkeys(study.label for study in inputs.studies))}"
    labels = dict.fromkeys([*(one.label for one in inputs.results), *(file.label for file in inputs.answer_files)])
    names = list(labels)
    return f"Report: {', '.join(names[:4])}{' and others' if len(names) > 4 else ''}"


def _with_unique_slugs(sections: Sequence[Section]) -> list[Section]:
    """Several studies have charts of the same name, and in names from a file may stand what is none of a file."""
    met: dict[str, int] = {}

    def renamed(chart: Chart) -> Chart:
        slug = re.sub(r"[^\w-]+", "-", chart.slug)
        met[slug] = met.get(slug, 0) + 1
        return replace(chart, slug=slug if met[slug] == 1 else f"{slug}-{met[slug]}")

    return [
        replace(section, blocks=[renamed(block) if isinstance(block, Chart) else block for block in section.blocks])
        for section in sections
    ]
