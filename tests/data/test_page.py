"""docs/reference/data.md lists these formats and templates: its tables are those that the script would write now."""

from __future__ import annotations

from pages import DOCS, ROOT, script


def test_the_tables_are_current() -> None:
    page = (DOCS / "reference" / "data.md").read_text(encoding="utf-8")
    assert script(ROOT / "scripts" / "format_table.py").page(page) == page, "run python scripts/format_table.py"
