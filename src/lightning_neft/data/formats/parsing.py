"""Make samples of all records, and count what was omitted or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_neft.data.conversation import Sample
from lightning_neft.data.formats.format import Format

__all__ = ["Parsed", "parse_records"]


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
