"""Local files and glob patterns: JSON, JSON Lines, CSV, TSV and Parquet, by content where that tells."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from typing_extensions import override

from lightning_neft.data.sources.csv_file import csv_records
from lightning_neft.data.sources.json_file import json_records
from lightning_neft.data.sources.parquet_file import PARQUET, parquet_count, parquet_records
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.errors import DataError

__all__ = ["FileRecords", "is_pattern", "matching_files"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 1 << 20


class FileRecords(Records):
    """The records of one or several files, one after the other.

    Parquet and gzip are known by their first bytes, an array by its bracket, CSV and TSV by the name's end, before
    `.gz` if there is one; everything else is read as JSON Lines.

    Args:
        paths: The files, in their order.
        name: What to call them together; the first one's path by default.
        streaming: Whether `size` must not read them.
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
            # The size keeps two files apart from one with the contents of both.
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
    """Return whether a path is meant as a glob pattern, if there is no file of this name."""
    return any(character in source for character in "*?[")


def matching_files(pattern: str) -> list[Path]:
    """Return the files that match a glob pattern, sorted; `**` goes into folders.

    Raises:
        DataError: If there are none.
    """
    # Not Path.glob, which takes no absolute patterns.
    paths = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
    if not paths:
        raise DataError(f"no file matches {pattern} (looked from {Path.cwd()}); put the pattern in quotation marks")
    return paths


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
    # The name counts too, so that the error of a file that is cut or overwritten is about Parquet.
    return start == PARQUET or path.suffix.lower() == ".parquet"


def _size(path: Path) -> int:
    return path.stat().st_size
