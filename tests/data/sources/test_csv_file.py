"""Reading CSV and TSV: quoted line breaks, line numbers, and what is wrong with a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_neft.data.sources.files import csv_records
from lightning_neft.errors import DataError


def test_rows_have_the_line_where_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n1,"two\nlines, and ""marks"""\r\n\r\n3,\r\n')
    assert list(csv_records(path)) == [
        ({"a": "1", "b": 'two\nlines, and "marks"'}, f"{path}, line 2"),
        ({"a": "3", "b": ""}, f"{path}, line 5"),
    ]


def test_tabs_separate_the_fields_of_a_tsv_file(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\n1,5\t2\n")
    assert list(csv_records(path, "\t")) == [({"a": "1,5", "b": "2"}, f"{path}, line 2")]


def test_fields_longer_than_the_default_of_csv_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"a\n{'x' * 300_000}\n")
    csv.field_size_limit(131_072)
    assert [len(record["a"]) for record, _ in csv_records(path)] == [300_000]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", []),
        ("\n\n", []),
        ("a,b\n\n", []),
        ("a,b,a\n1,2,3", ["line 1", "'a'"]),
        (
            "a;b\n1;2",
            ["line 1", "'a;b'"],
        ),
        (
            'a,b\n"1\n",2\n1,2,3\n',
            ["line 4"],
        ),
        (
            "a,b\n1\n",
            ["line 2"],
        ),
        (
            'a,b\n1,2\n3,"4\n5,6\n',
            ["line 3"],
        ),
    ],
)
def test_every_fault_is_named_with_its_line(
    tmp_path: Path, content: str, named: list[str], snapshot: Callable[[str], None]
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        list(csv_records(path))
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)


def test_a_row_after_a_broken_quotation_mark_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,"2"3\n')
    with pytest.raises(DataError, match=r"line 2: broken CSV .*expected after"):
        list(csv_records(path))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=8), quoting=st.sampled_from([0, 1]))
def test_what_the_csv_module_writes_is_read_again(tmp_path: Path, rows: list[tuple[str, str]], quoting: int) -> None:
    written, expected = io.StringIO(newline=""), []
    writer = csv.writer(written, quoting=quoting)
    writer.writerow(["a", "b"])
    for row in rows:
        expected.append((dict(zip("ab", row, strict=True)), 1 + written.getvalue().count("\n")))
        writer.writerow(row)
    path = tmp_path / "x.csv"
    path.write_bytes(written.getvalue().encode())
    assert list(csv_records(path)) == [(record, f"{path}, line {line}") for record, line in expected]
