"""`Records`: the records of a source, each with its place for messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any

from lightning_neft.errors import DataError

__all__ = ["Record", "Records"]

Record = dict[str, Any]

_HEAD = 100


class Records(ABC):
    """The records of a source. Each iteration starts at the first record and reads piece by piece.

    Iterating yields pairs of a record and its place, such as "x.jsonl, line 7"; rows and records count from 1.

    Args:
        name: Name of the source in messages.
        streaming: Whether `size` must not read the whole source.
    """

    def __init__(self, name: str, streaming: bool = False) -> None:
        self.name = name
        self.streaming = streaming

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Record, str]]:
        """Iterate over the records and their places."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes with the data. Of files, all bytes are read once."""

    @property
    def first(self) -> Record:
        """The first record.

        Raises:
            DataError: If there is none, or it cannot be read.
        """
        return self.head[0]

    @cached_property
    def head(self) -> list[Record]:
        """The first records, at most 100, from which the format is detected.

        They end before a record that cannot be read; iterating raises the error with its place.

        Raises:
            DataError: If there is none, or the first one cannot be read.
        """
        found: list[Record] = []
        try:
            found.extend(record for record, _ in islice(self, _HEAD))
        except DataError:
            if not found:
                raise
        if not found:
            raise DataError(f"{self.name} has no sample to train on")
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """The names in the first record."""
        return tuple(self.first)

    @cached_property
    def size(self) -> int | None:
        """Number of records, None for a stream. Files are read once to count them."""
        return None if self.streaming else self._count()

    def _count(self) -> int:
        return sum(1 for _ in self)
