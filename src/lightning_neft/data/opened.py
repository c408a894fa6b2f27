"""`Opened`: a source, of which only the first records have been read, and its format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from typing_extensions import override

from lightning_neft.data.formats.format import Format
from lightning_neft.data.formats.registry import choose_format
from lightning_neft.data.options import DataOptions
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.data.sources.source import open_source
from lightning_neft.errors import DataError

__all__ = ["Opened", "formats_of", "open_sources"]


@dataclass(frozen=True)
class Opened:
    """A source whose first records have been read.

    Attributes:
        options: Its options.
        records: Its records.
        held_out_records: The validation set if that is not a part of `records`, otherwise None.
        format: The data format.
    """

    options: DataOptions
    records: Records
    held_out_records: Records | None
    format: Format

    @classmethod
    def of(cls, options: DataOptions) -> Opened:
        """Open the source of the options.

        Raises:
            DataError: If it cannot be read, or no format fits.
            ConfigError: If there is no such format, or it has no such column.
        """
        records, held_out = _open(options, options.split), None
        if options.val_split is not None:
            held_out = _open(options, options.val_split)
        elif options.streaming and options.val_size:
            held_out = _FirstRecords(records, int(options.val_size))
        chosen = choose_format(records.head, options.format, options.columns, source=options.source)
        return cls(options, records, held_out, chosen)


def open_sources(options: DataOptions) -> tuple[list[Opened], Opened | None]:
    """Open the sources to train on, and the one to validate on if that is a separate one.

    Raises:
        DataError: If one cannot be read, or the two are the same.
        ConfigError: If there is no such format, or it has no such column.
    """
    opened = [Opened.of(each) for each in options.each]
    if options.validation is None:
        return opened, None
    validation = Opened.of(options.validation)
    # A stream is not read for its fingerprint.
    if not options.streaming and any(one.records.fingerprint == validation.records.fingerprint for one in opened):
        raise DataError(
            f"data.val_source={options.validation.source} has the same records as the training data; give other data, "
            "or omit it: data.val_size holds out a part of the training data"
        )
    return opened, validation


def formats_of(options: DataOptions) -> list[Format]:
    """Return the format of each source; at most the first records are read.

    Raises:
        DataError: If they cannot be read.
        ConfigError: If there is no such format, or it has no such column.
    """
    return [Opened.of(replace(each, val_split=None, val_size=0, streaming=True)).format for each in options.each]


class _FirstRecords(Records):
    """The first records of a stream, for validation.

    Raises:
        DataError: If no record is left to train on.
    """

    def __init__(self, records: Records, count: int) -> None:
        super().__init__(records.name)
        self._records = list(islice(records, count + 1))
        if len(self._records) <= count:
            raise DataError(
                f"data.val_size={count} holds out all {len(self._records)} records of {records.name}, which leaves "
                "none to train on; give a smaller data.val_size"
            )
        self._records.pop()

    @override
    def __iter__(self) -> Iterator[tuple[Record, str]]:
        return iter(self._records)

    @property
    @override
    def fingerprint(self) -> str:
        """SHA-256 over the records."""
        return hashlib.sha256(repr([record for record, _ in self._records]).encode()).hexdigest()


def _open(options: DataOptions, split: str | None) -> Records:
    return open_source(
        options.source,
        split=split,
        subset=options.subset,
        revision=options.revision,
        streaming=options.streaming,
        columns=options.columns.values(),
    )
