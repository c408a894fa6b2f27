"""docs/architectures.md is of this table: the same rows and checks, all of them passed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from matrix.architectures import ROWS
from matrix.checks import CHECKS, not_applicable

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


@pytest.fixture(scope="module")
def tables() -> dict[str, list[list[str]]]:
    """By the first cell of their rows: the other cells, of the tables of checks."""
    headings = f"| architecture | family | {' | '.join(CHECKS)} |"
    cells: dict[str, list[list[str]]] = {}
    is_inside = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line == headings:
            is_inside = True
        elif not line.startswith("|"):
            is_inside = False
        elif is_inside and not line.startswith("|---"):
            first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
            cells.setdefault(first, []).append(rest)
    return cells


def test_lists_each_row_once(tables):
    assert {name: cells[0][0] for name, cells in tables.items()} == {row.name: row.family for row in ROWS}
    assert all(len(found) == 1 for found in tables.values())
    assert f"\n{len(ROWS)} rows, " in PAGE.read_text(encoding="utf-8")


def test_each_check_passed_or_does_not_apply(tables):
    text = PAGE.read_text(encoding="utf-8")
    (line,) = re.findall(r"^.* A check that does not apply: (.*)\.$", text, flags=re.MULTILINE)
    reasons = dict(re.findall(r"(-\(\d+\)) ([^,]+)", line))
    passed = 0
    for row in ROWS:
        [[_, *cells]] = tables[row.name]
        for check, cell in zip(CHECKS.values(), cells, strict=True):
            reason = not_applicable(row, check)
            if row.needs is not None and reasons.get(cell) == "its package is not installed":
                continue
            assert reasons.get(cell, cell) == (reason or "ok")
            passed += cell == "ok"
    assert f", {passed} checks passed." in text
