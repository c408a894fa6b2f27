"""Read CSV and TSV files with a header, row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from lightning_neft.data.sources.records import Record
from lightning_neft.data.sources.text import text_lines
from lightning_neft.errors import DataError

__all__ = ["csv_records"]

# The csv module's own limit of 131,072 characters is short of many conversations; this is the most that a C long holds
# everywhere.
_FIELD_LIMIT = 2**31 - 1


def csv_records(path: Path, separator: str = ",") -> Iterator[tuple[Record, str]]:
    """Yield each row as texts by column, with "PATH, line N", the line in the file where it begins.

    Args:
        path: A file in UTF-8 whose first row names the columns. Blank lines are skipped.
        separator: What stands between the fields.

    Raises:
        DataError: If the file is empty, has no row, or names a column twice; if a row has more or fewer fields than
            the header, or a quotation mark that does not close; with the line.
    """
    if csv.field_size_limit() < _FIELD_LIMIT:
        csv.field_size_limit(_FIELD_LIMIT)
    rows = _rows(path, separator)
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(f"{path} is empty; expected a header and rows in UTF-8")
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise DataError(f"{path}, line 1: the header names {', '.join(map(repr, twice))} twice; rename one of them")
    if len(header) == 1 and any(other in header[0] for other in ";\t|"):
        raise DataError(
            f"{path}, line 1: the header {header[0]!r} is a single column; the fields of a .csv file are separated by "
            "commas, those of a .tsv file by tabs"
        )
    empty = True
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} fields, but the header has {len(header)} ({', '.join(header)}); "
                "put a text that holds a separator or a line break in quotation marks"
            )
        empty = False
        yield dict(zip(header, row, strict=True)), f"{path}, line {line}"
    if empty:
        raise DataError(f"{path} holds a header and no row: it has no sample to train on")


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
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
