"""Reading JSON arrays and JSON Lines: both forms, broken ones, and arrays larger than what is read at once."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_neft.data.sources import text
from lightning_neft.data.sources.json_file import json_records
from lightning_neft.errors import DataError

RECORDS: list[dict[str, Any]] = [
    {"instruction": "Add.", "input": "1 2", "output": "3"},
    {"instruction": "Greet.", "history": [], "nested": {"a": [1, 2.5, None, True]}},
    {"instruction": "Über", "input": None, "output": "a\u2028b"},
]
BEYOND = "nested too deeply, or a number of thousands of digits"


def read(path: Path) -> list[dict[str, Any]]:
    return [record for record, _ in json_records(path)]


@pytest.mark.parametrize(
    ("written", "places"),
    [
        (json.dumps(RECORDS), "record"),
        (json.dumps(RECORDS, indent=2, ensure_ascii=False), "record"),
        ("\n \t" + json.dumps(RECORDS) + "\r\n", "record"),
        ("\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS), "line"),
        ("\r\n".join(json.dumps(record) for record in RECORDS) + "\r\n\r\n", "line"),
        ("\ufeff" + json.dumps(RECORDS), "record"),
        ("\ufeff" + "\n".join(json.dumps(record) for record in RECORDS), "line"),
    ],
    ids=["array", "indented", "space around", "lines", "crlf lines", "byte order mark", "byte order mark, lines"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_both_forms_give_the_same_records(tmp_path: Path, written: str, places: str, packed: bool) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(gzip.compress(written.encode()) if packed else written.encode())
    assert list(json_records(path)) == [
        (record, f"{path}, {places} {number}") for number, record in enumerate(RECORDS, start=1)
    ]


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('\n  \n{"a": 1}\n\n{"a": 2}\n')
    assert list(json_records(path)) == [({"a": 1}, f"{path}, line 3"), ({"a": 2}, f"{path}, line 5")]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", []),
        (b" \n ", []),
        (b"\xef\xbb\xbf", []),
        (b"[]", []),
        (b" [ \n ] ", []),
        (b'[\n{"a": "a",\n"output": b}]', ["line 3", "column 11"]),
        (
            b'{"a": "b"}\n\n{"instruction": ',
            ["line 3", "column 17"],
        ),
        (b"[", ["line 1", "column 2"]),
        (b'[{"a": 1}', ["line 1", "column 10", "','"]),
        (b'[{"a": 1}\n{"a": 2}]', ["line 2", "column 1", "','"]),
        (b'[{"a": 1}] []', ["line 1", "column 12"]),
        (b'{"a": 1} {"a": 2}', ["line 1", "column 10"]),
        (b'[{"a": "\n"}]', ["line 1", "column 9"]),
        (b'[{"a": "b}]', ["line 1", "column 8"]),
        (
            b'[{"a": 1},\n]',
            ["line 2", "column 1"],
        ),
        (b'[{"a": 1}, 3]', []),
        (b'{"a": 1}\n"text"', ["line 2", "'text'"]),
        (b'{"a": 1}\nnull', ["line 2"]),
        pytest.param(b"[" * 100_000, ["line 1"], id="deep array"),
        pytest.param(b'{"a": ' + b"[" * 100_000, ["line 1"], id="deep line"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", ["line 1"], id="long number in a line"),
        pytest.param(b'[{"a": ' + b"9" * 5000 + b"}]", ["line 1"], id="long number"),
    ],
)
def test_every_fault_is_named_with_its_place(
    tmp_path: Path, content: bytes, named: list[str], snapshot: Callable[[str], None]
) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)


def test_an_error_comes_after_the_records_before_it(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[{"a": 1}, {"a": 2}, {"a": ]')
    records = json_records(path)
    assert [next(records)[0], next(records)[0]] == [{"a": 1}, {"a": 2}]
    with pytest.raises(DataError, match="line 1, column 28"):
        next(records)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
records = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), min_size=1, max_size=6)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(records=records, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans(), chunk=st.integers(1, 40))
def test_an_array_read_in_pieces_is_what_the_json_module_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[Any], indent: int, ascii_only: bool, chunk: int
) -> None:
    monkeypatch.setattr(text, "_CHUNK", chunk)
    path = tmp_path / "data.json"
    written = json.dumps(records, indent=indent, ensure_ascii=ascii_only)
    try:
        path.write_bytes(written.encode())
    except UnicodeEncodeError:
        written = json.dumps(records, indent=indent)
        path.write_bytes(written.encode())
    assert read(path) == json.loads(written)


@quick
@given(
    records=records,
    position=st.integers(0, 10_000),
    put=st.sampled_from(["", "]", "[", "{", ",", '"', "\n", "\\", "1", "x"]),
    chunk=st.integers(1, 40),
)
def test_errors_of_the_json_module_keep_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[Any], position: int, put: str, chunk: int
) -> None:
    monkeypatch.setattr(text, "_CHUNK", chunk)
    path = tmp_path / "data.json"
    whole = json.dumps(records, indent=1)
    position = 1 + position % (len(whole) - 1)
    written = whole[:position] + put + whole[position + 1 :]
    path.write_text(written)
    faults, expected = _faults(written)
    if not faults and expected and all(isinstance(record, dict) for record in expected):
        assert read(path) == expected
    else:
        with pytest.raises(DataError) as caught:
            read(path)
        # A value that is no object is met first where the text is broken only later.
        told = [*map(_shown, faults), "expected an object with"]
        assert any(words in str(caught.value) for words in told)


def _faults(written: str) -> tuple[list[json.JSONDecodeError], Any]:
    """What json says of a text, and what is said of a comma before the end of the records; or none, and the value."""
    try:
        return [], json.loads(written)
    except json.JSONDecodeError as error:
        # Before Python 3.13 json is at the bracket, from then on at the comma.
        end = re.compile(r",?\s*\]").match(written, error.pos)
        comma = "Illegal trailing comma before end of array"
        return [error, *([json.JSONDecodeError(comma, written, end.end() - 1)] if end else [])], None


def _shown(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno}, column {error.colno}: broken JSON ({error.msg})"


def test_an_error_in_a_long_line_has_its_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_CHUNK", 16)
    path = tmp_path / "data.json"
    written = "[\n" + ", ".join('{"a": 1}' for _ in range(50)) + ', {"a": !}]'
    path.write_text(written)
    with pytest.raises(DataError, match=f"line 2, column {written.index('!') - 1}: broken JSON"):
        read(path)


def test_an_array_never_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_CHUNK", 100)
    given: list[str] = []

    def counted(path: Path) -> Any:
        for chunk in text.text_chunks(path):
            given.append(chunk)
            yield chunk

    monkeypatch.setattr("lightning_neft.data.sources.json_file.text_chunks", counted)
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"a": "x" * 20}] * 1000))
    iterator = json_records(path)
    next(iterator)
    assert sum(map(len, given)) <= 300
    assert sum(1 for _ in iterator) == 999
