"""What a format is: the columns that it needs, and how a record of them becomes a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_neft.data.conversation import Sample
from lightning_neft.errors import DataError

__all__ = ["PARSING_VERSION", "Column", "Format", "checked_text", "shown"]

# Part of the fingerprint of stored tokens: to be raised whenever a format makes another sample of the same record.
PARSING_VERSION = 1


@dataclass(frozen=True)
class Column:
    """A column of a format.

    Attributes:
        name: What this package calls it.
        aliases: What well-known data call it, looked for in this order where `name` is missing.
        required: Whether each record must have it.
    """

    name: str
    aliases: tuple[str, ...] = ()
    required: bool = True


class Format(ABC):
    """Makes samples of records.

    Args:
        mapping: The column to read for some of the format's own: `{"output": "answer"}`. There neither the own name nor
            an alias counts.

    Attributes:
        name: What the user calls it.
        columns: What it reads; everything else in a record is left alone.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        self.mapping = dict(mapping or {})

    def parse(self, record: Mapping[str, Any], where: str, notices: Counter[str] | None = None) -> Sample:
        """Return the sample of a record. An empty answer is no error: it is counted and left out later.

        Args:
            record: Values by column.
            where: The words that say where it stands.
            notices: Counts, by text, the records where something was left out or changed that a person should know.

        Raises:
            DataError: If a column is missing or holds something else than the format says.
        """
        missing = [column.name for column in self.columns if column.required and self._key(record, column) is None]
        if missing:
            found = ", ".join(map(str, record)) or "none"
            raise DataError(
                f"{where}: no {' and no '.join(map(repr, missing))} for the format {self.name} (columns found: "
                f"{found}); add what is missing, or name the columns that hold it with the option columns"
            )
        noticed: set[str] = set()
        sample = self._sample(record, where, noticed)
        if notices is not None:
            notices.update(noticed)
        return sample

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record looks like one of this format."""
        return all(self._key(record, column) is not None for column in self.columns if column.required)

    def needs(self) -> str:
        """Return the names of the columns, for messages: those that may be missing in brackets."""
        return ", ".join(column.name if column.required else f"[{column.name}]" for column in self.columns)

    @abstractmethod
    def _sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Sample:
        """Make a sample of a record that has all that is required, adding to `noticed` what a person should know."""

    def _key(self, record: Mapping[str, Any], column: Column) -> str | None:
        """Return the name in the record of a column, or None if the record lacks it."""
        mapped = self.mapping.get(column.name)
        names = (column.name, *column.aliases) if mapped is None else (mapped,)
        return next((name for name in names if name in record), None)

    def _value(self, record: Mapping[str, Any], name: str) -> Any:
        """Return the value of a column by the format's name, None where the record lacks it."""
        key = self._key(record, next(column for column in self.columns if column.name == name))
        return None if key is None else record[key]

    def _text(self, record: Mapping[str, Any], name: str, where: str, *, may_lack: bool = False) -> str:
        """Return the text of a column.

        Args:
            record: The record.
            name: The format's name of the column.
            where: The words for an error.
            may_lack: Whether null, or no such column, stands for an empty text.
        """
        value = self._value(record, name)
        if value is None and may_lack:
            return ""
        return checked_text(value, repr(self.mapping.get(name, name)), where)


def checked_text(value: Any, what: str, where: str) -> str:
    """Return a value that must be text.

    Raises:
        DataError: If it is none, or holds half of a surrogate pair, which no tokenizer can encode.
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: {what} must be text, got {shown(value)}")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: {what} holds half of a surrogate pair, which is no character; repair the text")
    return value


def shown(value: object) -> str:
    """Return a value's type and its beginning, for messages."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
