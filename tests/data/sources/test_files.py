"""Files and patterns: which reader reads what, and what they are known by."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightning_neft.data.sources import tables
from lightning_neft.data.sources.files import FileRecords, matching_files
from lightning_neft.errors import DataError

ROWS = [{"text": "a", "turns": [{"from": "human", "value": "x"}]}, {"text": None, "turns": []}]


def write_parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, pq_schema()), path)
    return path


def pq_schema() -> pa.Schema:
    turns = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
    return pa.schema([("text", pa.string()), ("turns", turns)])


def packed(content: bytes) -> bytes:
    # Without the time, which would give the tests other names each time.
    return gzip.compress(content, mtime=0)


def test_parquet_is_read_row_by_row_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BATCH", 2)
    path = write_parquet(tmp_path / "x.data", ROWS * 3)
    records = FileRecords([path])
    assert list(records) == [(row, f"{path}, row {number}") for number, row in enumerate(ROWS * 3, start=1)]
    assert records.size == 6
    assert records.columns == ("text", "turns")


def test_parquet_that_is_broken_or_empty_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", ROWS)
    whole = path.read_bytes()
    for content in (whole[:-10], b"", b"PAR1", b"no parquet at all, though its name says so"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.parquet: broken Parquet file \(.*\); write or download it again"):
            list(FileRecords([path]))
    write_parquet(path, [])
    with pytest.raises(DataError, match=r"x\.parquet has no row"):
        list(FileRecords([path]))


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("x.csv", b"a,b\n1,2\n", "line 2"),
        ("x.CSV", b"a,b\n1,2\n", "line 2"),
        ("x.tsv", b"a\tb\n1\t2\n", "line 2"),
        ("x.tsv.gz", packed(b"a\tb\n1\t2\n"), "line 2"),
        ("x.csv", packed(b"a,b\n1,2\n"), "line 2"),
        ("x.json", b'[{"a": "1", "b": "2"}]', "record 1"),
        ("x.jsonl", b'[{"a": "1", "b": "2"}]', "record 1"),
        ("x.json", b'{"a": "1", "b": "2"}', "line 1"),
        ("x", packed(b'{"a": "1", "b": "2"}'), "line 1"),
    ],
)
def test_each_kind_of_file_is_read_by_its_reader(tmp_path: Path, name: str, content: bytes, place: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert list(FileRecords([path])) == [({"a": "1", "b": "2"}, f"{path}, {place}")]


def test_records_can_be_read_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    records = FileRecords([path])
    first, second = iter(records), iter(records)
    assert next(first)[0] == {"a": 1}
    assert next(second)[0] == {"a": 1}
    assert next(first)[0] == {"a": 2}
    assert records.first == {"a": 1}
    assert records.size == 2
    assert FileRecords([path], streaming=True).size is None


def test_files_come_one_after_the_other_with_their_own_lines(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"a": 2}\n{"a": 3}')
    (tmp_path / "a.json").write_text('[{"a": 1}]')
    (tmp_path / "c.txt").write_text("no data")
    (tmp_path / "d.jsonl").mkdir()
    files = matching_files(f"{tmp_path}/*.json*")
    assert [path.name for path in files] == ["a.json", "b.jsonl"]
    assert [(record["a"], Path(where.partition(",")[0]).name) for record, where in FileRecords(files)] == [
        (1, "a.json"),
        (2, "b.jsonl"),
        (3, "b.jsonl"),
    ]


def test_a_pattern_goes_into_folders(tmp_path: Path) -> None:
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "in" / "side" / "x.jsonl").touch()
    assert matching_files(f"{tmp_path}/**/*.jsonl") == [tmp_path / "in" / "side" / "x.jsonl"]


def test_a_pattern_without_files_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[str], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        matching_files(f"{tmp_path}/*.jsonl")
    snapshot(str(caught.value))


def test_an_empty_file_among_others_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}')
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(DataError, match=r"b\.jsonl is empty"):
        list(FileRecords(matching_files(f"{tmp_path}/*.jsonl")))


def test_the_fingerprint_is_of_the_contents_in_their_order(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    a.write_text('{"a": 1}\n')
    b.write_text('{"a": 2}\n')
    c.write_text('{"a": 1}\n{"a": 2}\n')
    of_a = FileRecords([a]).fingerprint
    assert len(of_a) == 64
    assert of_a == FileRecords([a], name="other").fingerprint
    different = {FileRecords(paths).fingerprint for paths in ([a], [b], [a, b], [b, a], [c])}
    assert len(different) == 5
    os.utime(a, (0, 0))
    assert FileRecords([a]).fingerprint == of_a
    a.write_text('{"a": 1} \n')
    assert FileRecords([a]).fingerprint != of_a


def test_a_file_that_has_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl cannot be read: No such file or directory"):
        list(FileRecords([tmp_path / "x.jsonl"]))


def test_records_without_any_have_no_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^nothing has no sample to train on$"):
        _ = FileRecords([], name="nothing").first


def test_an_array_of_many_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    rows = [{"text": "€" * 1000, "number": number} for number in range(2000)]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert [record["number"] for record, _ in FileRecords([path])] == list(range(2000))
