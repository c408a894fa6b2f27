"""Write the tables of data formats and templates in docs/reference/data.md from the code.

    python scripts/format_table.py

replaces the text between the two marks of the page; the text around them is written by hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from lightning_neft.common.files import write_text
from lightning_neft.data.formats.format import Column
from lightning_neft.data.formats.registry import FORMAT_CLASSES
from lightning_neft.data.templates.bundled import BUNDLED
from lightning_neft.data.templates.chat_template import ChatTemplate

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "data.md"
BEGIN, END = "<!-- made by scripts/format_table.py -->", "<!-- end -->"


def tables() -> Iterator[str]:
    """The tables in Markdown, line by line."""
    yield from _table(
        ("`data.format`", "columns, [optional]", "default template", "what a record holds"),
        [
            (
                f"`{kind.name}`",
                ", ".join(map(_column, kind.columns)),
                "the tokenizer's own, else `chatml`" if kind.template == ChatTemplate.name else f"`{kind.template}`",
                _first_paragraph(kind),
            )
            for kind in FORMAT_CLASSES
        ],
    )
    yield ""
    yield from _table(
        ("`data.template`", "what it renders"),
        [
            *((f"`{entry.name}`", _cell(entry.about)) for entry in BUNDLED.values()),
            (f"`{ChatTemplate.name}`", _first_paragraph(ChatTemplate)),
        ],
    )


def page(text: str) -> str:
    """The page with new tables in place of those between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(tables())
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _column(column: Column) -> str:
    names = " or ".join((column.name, *column.aliases))
    return names if column.required else f"[{names}]"


def _first_paragraph(kind: type) -> str:
    return _cell((inspect.getdoc(kind) or "").partition("\n\n")[0])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
