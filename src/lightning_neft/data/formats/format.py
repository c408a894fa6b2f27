"""What a format is: the columns that it needs, and how a record of them becomes a sample."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lightning_neft.data.conversation import Conversation, Labelled, Sample
from lightning_neft.errors import ConfigError, DataError, NEFTError

__all__ = ["PARSING_VERSION", "Column", "Exchanges", "Format", "Parsed", "checked_text", "parse_records", "shown"]

# Part of the fingerprint of stored tokens: to be raised whenever a format makes another sample of the same record.
PARSING_VERSION = 1

Exchanges = Sequence[tuple[str, str]]
"""Questions with their answers."""


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

    A format of your own is a subclass with `columns` and `sample`; `data.format` takes its import path. The first
    paragraph of its docstring is what the table in docs/training.md says of a bundled one.

    Args:
        mapping: The column to read for some of the format's own: `{"output": "answer"}`. Then neither the own name nor
            an alias is looked for.

    Attributes:
        name: What messages call it, and `data.format` if it is bundled; the import path of the class by default.
        columns: What it reads; all other columns of a record are ignored.
        template: The template of such data where the user names none. `tokenizer` stands for the tokenizer's own, or
            `chatml` where it has none.

    Example:
        >>> class Quiz(Format):
        ...     columns = (Column("question"), Column("reply"))
        ...
        ...     def sample(self, record, where, noticed):
        ...         question, reply = (self.text(record, name, where) for name in ("question", "reply"))
        ...         return Conversation.exchange(question, reply)
        >>> Quiz().parse({"question": "1 + 1?", "reply": "2"}, "record 1").answer
        '2'
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    template: ClassVar[str] = "plain"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        self.mapping = dict(mapping or {})

    @abstractmethod
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Sample:
        """Make a sample of a record that has all required columns.

        Args:
            record: Values by column.
            where: Names the record in errors.
            noticed: Takes a text for each thing that was omitted or changed; preview and fit count the records by it.
        """

    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return a record of this format with these exchanges, for the samples of `--tiny`.

        Args:
            exchanges: At least one; a format without turns may use the first question alone.
            number: Index of the record.

        Raises:
            ConfigError: If the format does not define it.
        """
        raise ConfigError(
            f"--tiny cannot write samples in the format {cls.name}: the class has no record_of; define it, or give "
            "--data.source"
        )

    def parse(self, record: Mapping[str, Any], where: str, notices: Counter[str] | None = None) -> Sample:
        """Return the sample of a record. An empty answer is not an error: it is counted and dropped later.

        Args:
            record: Values by column.
            where: Names the record in errors.
            notices: Counts, by text, the records where something was omitted or changed that a person should know.

        Raises:
            DataError: If a column is missing or does not hold what the format requires.
        """
        missing = [column.name for column in self.columns if column.required and self.key(record, column) is None]
        if missing:
            found = ", ".join(map(str, record)) or "none"
            raise DataError(
                f"{where}: no {' and no '.join(map(repr, missing))} for the format {self.name} (columns found: "
                f"{found}); add what is missing, or map the columns that hold it with data.columns"
            )
        noticed: set[str] = set()
        sample = (
            self.sample(record, where, noticed) if _is_bundled(type(self)) else self._checked(record, where, noticed)
        )
        if notices is not None:
            notices.update(noticed)
        return sample

    def identity(self) -> str:
        """Return a text that changes as soon as the format may make other samples, for the key of stored tokens.

        For a bundled format `PARSING_VERSION` does that. For another one it is the file of the class.
        """
        kind = type(self)
        if _is_bundled(kind):
            return kind.name
        return f"{kind.name} {hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()}"

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record looks like one of this format."""
        return all(self.key(record, column) is not None for column in self.columns if column.required)

    def needs(self) -> str:
        """Return the names of the columns, for messages: those that may be missing in brackets."""
        return ", ".join(column.name if column.required else f"[{column.name}]" for column in self.columns)

    def key(self, record: Mapping[str, Any], column: Column) -> str | None:
        """Return the name in the record of a column, or None if the record lacks it."""
        mapped = self.mapping.get(column.name)
        names = (column.name, *column.aliases) if mapped is None else (mapped,)
        return next((name for name in names if name in record), None)

    def value(self, record: Mapping[str, Any], name: str) -> Any:
        """Return the value of a column by the format's name, None where the record lacks it."""
        key = self.key(record, next(column for column in self.columns if column.name == name))
        return None if key is None else record[key]

    def text(self, record: Mapping[str, Any], name: str, where: str, *, may_lack: bool = False) -> str:
        """Return the text of a column.

        Args:
            record: The record.
            name: The format's name of the column.
            where: Names the record in errors.
            may_lack: Whether null, or no such column, stands for an empty text.

        Raises:
            DataError: If it is not text.
        """
        value = self.value(record, name)
        if value is None and may_lack:
            return ""
        return checked_text(value, repr(self.mapping.get(name, name)), where)

    def _checked(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Sample:
        """Make a sample with a user's class, whose faults are reported with the record."""
        try:
            sample: Any = self.sample(record, where, noticed)
        except NEFTError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"{where}: the format {self.name} failed with {reason}; repair its sample()") from error
        if not isinstance(sample, (Conversation, Labelled)):
            raise DataError(
                f"{where}: sample() of the format {self.name} must return a Conversation or a Labelled, got "
                f"{shown(sample)}"
            )
        return sample


@dataclass
class Parsed:
    """What came out of reading records.

    Attributes:
        samples: One for each record, in order.
        notices: In how many records something was omitted or changed, by what it was.
        count: How many records there were.
    """

    samples: list[Sample] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    count: int = 0

    def lines(self, name: str) -> list[str]:
        """Return a line for each notice, for a person.

        Args:
            name: What to call the samples, such as "training".

        Example:
            >>> Parsed([], Counter({"turns are joined": 2}), count=7).lines("training")
            ['training data: in 2 of 7 records, turns are joined']
        """
        return [
            f"{name} data: in {number} of {self.count} records, {notice}"
            for notice, number in sorted(self.notices.items())
        ]


def parse_records(records: Iterable[tuple[Mapping[str, Any], str]], format: Format) -> Parsed:
    """Make a sample of each record.

    Args:
        records: Records and where they stand, such as a `Records`.
        format: What their columns mean.

    Raises:
        DataError: At the first record that is not a sample of this format.
    """
    parsed = Parsed()
    for record, where in records:
        parsed.samples.append(format.parse(record, where, parsed.notices))
        parsed.count += 1
    return parsed


def _is_bundled(kind: type[Format]) -> bool:
    return kind.__module__.startswith(f"{__package__}.")


def checked_text(value: Any, what: str, where: str) -> str:
    """Return a value that must be text.

    Raises:
        DataError: If it is not text, or holds half of a surrogate pair, which no tokenizer can encode.
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
