"""Local files and glob patterns: the reader for each file, and the one for CSV and TSV."""

from __future__ import annotations

import csv
import glob
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from typing_extensions import override

from lightning_neft.data.sources.json_file import json_records
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.data.sources.tables import PARQUET, parquet_count, parquet_records
from lightning_neft.data.sources.text import text_lines
from lightning_neft.errors import DataError

__all__ = ["FileRecords", "csv_records", "is_pattern", "matching_files"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
# The csv module's default limit of 131,072 characters is too low for many conversations; this is the maximum of a C
# long on all platforms.
_FIELD_LIMIT = 2**31 - 1
_BLOCK = 1 << 20


class FileRecords(Records):
    """The records of one or several files, one after the other.

    Parquet and gzip are detected from the first bytes, a JSON array from its bracket, CSV and TSV from the file name
    (before `.gz`); everything else is read as JSON Lines.

    Args:
        paths: The files in order.
        name: Name in messages; the path of the first file by default.
        streaming: See `Records`.
    """

    def __init__(self, paths: Sequence[Path], name: str | None = None, streaming: bool = False) -> None:
        super().__init__(str(paths[0]) if name is None else name, streaming)
        self.paths = tuple(paths)

    @override
    def __iter__(self) -> Iterator[tuple[Record, str]]:
        for path in self.paths:
            if _is_parquet(path):
                yield from parquet_records(path)
            elif separator := _separator(path):
                yield from csv_records(path, separator)
            else:
                yield from json_records(path)

    @override
    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all files in order."""
        digest = hashlib.sha256()
        for path in self.paths:
            # The size distinguishes two files from one with the contents of both.
            digest.update(f"{_size(path)}:".encode())
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        return digest.hexdigest()

    @override
    def _count(self) -> int:
        if all(map(_is_parquet, self.paths)):
            return sum(map(parquet_count, self.paths))
        return super()._count()


def is_pattern(source: str) -> bool:
    """Return whether a path is a glob pattern and not the name of a file."""
    return any(character in source for character in "*?[")


def matching_files(pattern: str) -> list[Path]:
    """Return the files that match a glob pattern, sorted; `**` matches folders at any depth.

    Raises:
        DataError: If there are none.
    """
    # Not Path.glob, which takes no absolute patterns.
    paths = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
    if not paths:
        raise DataError(f"no file matches {pattern} (looked from {Path.cwd()}); put the pattern in quotation marks")
    return paths


def csv_records(path: Path, separator: str = ",") -> Iterator[tuple[Record, str]]:
    """Yield each row as texts by column, with "PATH, line N" of its first line.

    Args:
        path: A file in UTF-8 whose first row names the columns. Blank lines are skipped.
        separator: Separator of the fields.

    Raises:
        DataError: If the file is empty, has no row, or names a column twice; if a row has more or fewer fields than
            the header, or an unclosed quotation mark. The message gives the line.
    """
    if csv.field_size_limit() < _FIELD_LIMIT:
        csv.field_size_limit(_FIELD_LIMIT)
    rows = _csv_rows(path, separator)
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(f"{path} is empty; expected a header and rows in UTF-8")
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise DataError(f"{path}, line 1: the header names {', '.join(map(repr, twice))} twice; rename one of them")
    if len(header) == 1 and any(other in header[0] for other in ";\t|"):
        raise DataError(
            f"{path}, line 1: the header {header[0]!r} is a single column; separate the fields of a .csv file by "
            "commas, those of a .tsv file by tabs"
        )
    empty = True
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} fields, but the header has {len(header)} ({', '.join(header)}); "
                "put a text that contains a separator or a line break in quotation marks"
            )
        empty = False
        yield dict(zip(header, row, strict=True)), f"{path}, line {line}"
    if empty:
        raise DataError(f"{path} has a header and no row, so there is no sample to train on; give another file")


def _csv_rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with its first line."""
    reader = csv.reader(text_lines(path), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: broken CSV ({error}); repair the row that begins there") from None
        if row is None:
            return
        if row:
            yield line, row


def _separator(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _SEPARATORS.get(suffixes[-1]) if suffixes else None


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(len(PARQUET))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    # The name counts too, so that the error about a truncated or overwritten file names Parquet.
    return start == PARQUET or path.suffix.lower() == ".parquet"


def _size(path: Path) -> int:
    return path.stat().st_size
