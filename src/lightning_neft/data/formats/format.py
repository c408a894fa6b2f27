"""`Format`: the columns that it needs, and how a record becomes a sample."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lightning_neft.common.escaping import escaped
from lightning_neft.data.conversation import Conversation, Labelled, Sample
from lightning_neft.errors import ConfigError, DataError, NEFTError

__all__ = [
    "PARSING_VERSION",
    "Column",
    "Exchanges",
    "Format",
    "Parsed",
    "checked_text",
    "ignored_key",
    "parse_records",
    "shown",
]

# Part of the fingerprint of stored tokens: raise it whenever a format makes another sample of the same record.
PARSING_VERSION = 3

# Begins the notice of a key that is not read; `Parsed.lines` puts all of them in one line.
_IGNORED = "ignored: "
# Keys that this line names, the most frequent first.
_MOST_KEYS = 8

Exchanges = Sequence[tuple[str, str]]
"""Questions with their answers."""


@dataclass(frozen=True)
class Column:
    """A column of a format.

    Attributes:
        name: The format's name for it.
        aliases: Other names in well-known data, tried in this order where `name` is missing.
        required: Whether each record must have it.
    """

    name: str
    aliases: tuple[str, ...] = ()
    required: bool = True


class Format(ABC):
    """Makes samples of records.

    A custom format is a subclass with `columns` and `sample`; `data.format` takes its import path. The table in
    docs/reference/data.md contains the first paragraph of the docstring of each bundled format.

    Args:
        mapping: The data's column for some of the format's own: `{"output": "answer"}`. It replaces the name and the
            aliases.

    Attributes:
        name: Its name in messages and, if it is bundled, in `data.format`; by default the import path of the class.
        columns: The columns that it reads; other columns of a record are ignored, counted and reported.
        template: The default template of such data. `tokenizer` stands for the tokenizer's own, or `chatml` where it
            has none.

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
    # Columns that are not read, for which `sample` adds a notice of its own.
    noticed_columns: ClassVar[tuple[str, ...]] = ()

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
            noticed: Add a text for everything that was dropped or changed; preview and fit count the records of each.
        """

    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return a record of this format with these exchanges, for the samples of `--tiny`.

        Args:
            exchanges: At least one; a format without turns may use only the first question.
            number: Index of the record.

        Raises:
            ConfigError: If the format does not define it.
        """
        raise ConfigError(
            f"--tiny cannot write samples in the format {cls.name}: the class has no record_of; define it, or give "
            "--data.source"
        )

    def parse(self, record: Mapping[str, Any], where: str, notices: Counter[str] | None = None) -> Sample:
        """Return the sample of a record. An empty answer is not an error; such samples are dropped later.

        Args:
            record: Values by column.
            where: Names the record in errors.
            notices: Counts the records where something was dropped or changed, by text.

        Raises:
            DataError: If a column is missing or has a wrong value.
        """
        missing = [column.name for column in self.columns if column.required and self.key(record, column) is None]
        if missing:
            found = ", ".join(map(str, record)) or "none"
            raise DataError(
                f"{where}: no {' and no '.join(map(repr, missing))} for the format {self.name} (columns found: "
                f"{found}); add the missing columns, or map others to them with data.columns"
            )
        noticed: set[str] = set()
        sample = (
            self.sample(record, where, noticed) if _is_bundled(type(self)) else self._checked(record, where, noticed)
        )
        if notices is not None:
            read = {self.key(record, column) for column in self.columns} | {*self.noticed_columns}
            # Null is what Parquet stores for a missing key.
            noticed.update(ignored_key(key) for key, value in record.items() if key not in read and value is not None)
            notices.update(noticed)
        return sample

    def identity(self) -> str:
        """Return a text that changes whenever the format may make other samples, for the key of stored tokens.

        A custom format is identified by the file of its class; for bundled ones there is `PARSING_VERSION`.
        """
        kind = type(self)
        if _is_bundled(kind):
            return kind.name
        return f"{kind.name} {hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()}"

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record looks like one of this format."""
        return all(self.key(record, column) is not None for column in self.columns if column.required)

    def needs(self) -> str:
        """Return the names of the columns for messages, optional ones in brackets."""
        return ", ".join(column.name if column.required else f"[{column.name}]" for column in self.columns)

    def key(self, record: Mapping[str, Any], column: Column) -> str | None:
        """Return the record's name of a column, None if the record lacks it; a name with a value before one with null.

        Merged tables fill up the columns of each with null.
        """
        mapped = self.mapping.get(column.name)
        names = (column.name, *column.aliases) if mapped is None else (mapped,)
        there = [name for name in names if name in record]
        return next((name for name in there if record[name] is not None), there[0] if there else None)

    def value(self, record: Mapping[str, Any], name: str) -> Any:
        """Return the value of a column by the format's name, None if the record lacks it."""
        key = self.key(record, next(column for column in self.columns if column.name == name))
        return None if key is None else record[key]

    def text(self, record: Mapping[str, Any], name: str, where: str, *, may_lack: bool = False) -> str:
        """Return the text of a column.

        Args:
            record: The record.
            name: The format's name of the column.
            where: Names the record in errors.
            may_lack: Whether null or a missing column is an empty text.

        Raises:
            DataError: If it is not text.
        """
        value = self.value(record, name)
        if value is None and may_lack:
            return ""
        return checked_text(value, repr(self.mapping.get(name, name)), where)

    def _checked(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Sample:
        """Make a sample with a custom class, whose errors are reported with the record."""
        try:
            sample: Any = self.sample(record, where, noticed)
        except NEFTError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"{where}: the format {self.name} failed with {reason}; fix its sample()") from error
        if not isinstance(sample, (Conversation, Labelled)):
            raise DataError(
                f"{where}: sample() of the format {self.name} must return a Conversation or a Labelled, got "
                f"{shown(sample)}"
            )
        return sample


@dataclass
class Parsed:
    """The result of parsing records.

    Attributes:
        samples: One for each record, in order.
        places: Where each sample is from.
        notices: Number of records where something was dropped or changed, by text.
        count: Number of records.
    """

    samples: list[Sample] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    count: int = 0

    def lines(self, name: str) -> list[str]:
        """Return a line for each notice.

        Args:
            name: What to call the samples, such as "training".

        Example:
            >>> Parsed([], [], Counter({"turns are joined": 2}), count=7).lines("training")
            ['training data: in 2 of 7 records, turns are joined']
            >>> Parsed([], [], Counter({ignored_key("id"): 7, ignored_key("lang"): 2}), count=7).lines("training")
            ['training data: ignored: id in 7 of 7 records, lang in 2']
        """
        ignored = Counter({key: number for key, number in self.notices.items() if key.startswith(_IGNORED)})
        lines = [
            f"{name} data: in {number} of {self.count} records, {notice}"
            for notice, number in sorted(self.notices.items())
            if notice not in ignored
        ]
        if ignored:
            # By name where equally frequent, so that the line does not depend on the order of the keys.
            (first, most), *others = sorted(ignored.items(), key=lambda pair: (-pair[1], pair[0]))
            parts = [f"{first} in {most} of {self.count} records"]
            parts += [f"{key.removeprefix(_IGNORED)} in {number}" for key, number in others[: _MOST_KEYS - 1]]
            if len(ignored) > _MOST_KEYS:
                parts.append(f"and {len(ignored) - _MOST_KEYS} other keys")
            lines.append(f"{name} data: {', '.join(parts)}")
        return lines


def ignored_key(key: str) -> str:
    """Return the notice that a record has a key that is not read."""
    return f"{_IGNORED}{escaped(str(key))}"


def parse_records(records: Iterable[tuple[Mapping[str, Any], str]], format: Format) -> Parsed:
    """Make a sample of each record.

    Args:
        records: Records and their places, such as a `Records`.
        format: Their format.

    Raises:
        DataError: At the first record that is not a sample of this format.
    """
    parsed = Parsed()
    for record, where in records:
        parsed.samples.append(format.parse(record, where, parsed.notices))
        parsed.places.append(where)
        parsed.count += 1
    return parsed


def _is_bundled(kind: type[Format]) -> bool:
    return kind.__module__.startswith(f"{__package__}.")


def checked_text(value: Any, what: str, where: str) -> str:
    """Return a value that must be text.

    Raises:
        DataError: If it is not text, or contains half of a surrogate pair, which no tokenizer can encode.
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: {what} must be text, got {shown(value)}")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: {what} contains half of a surrogate pair, which is not a character; repair the text")
    return value


def shown(value: object) -> str:
    """Return the type and the beginning of a value, for messages."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
