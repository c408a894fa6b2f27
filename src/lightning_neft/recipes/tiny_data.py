"""A few samples of the toy data in each data format, for smoke tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_neft.common.files import write_text
from lightning_neft.data.formats.registry import format_named
from lightning_neft.data.toy import toy_instructions
from lightning_neft.errors import DataError

__all__ = ["TINY_SAMPLES", "tiny_file", "tiny_records"]

TINY_SAMPLES = 12
"""Number of samples of each format."""
# Exchanges of a sample: separate turns in the formats that have them, one text in the others.
_SHORT, _LONG = 3, 30


def tiny_records(format: str, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return a few toy samples as records of a data format.

    Most are short; the last two are longer than the rows of any smoke test, so they are truncated.

    Args:
        format: One of `TINY_FORMATS`.
        columns: Names of columns that differ from the format's, such as `{"output": "answer"}`.

    Raises:
        ConfigError: If there is no such format, or it writes no records.

    Example:
        >>> tiny_records("alpaca", {"output": "answer"})[0]
        {'instruction': 'Find the odd word.', 'input': 'train, hammer, axe', 'answer': 'train'}
    """
    write = format_named(format).record_of
    toy = iter(toy_instructions("train"))
    records = []
    for number in range(TINY_SAMPLES):
        count = _LONG if number >= TINY_SAMPLES - 2 else 1 + number % _SHORT
        drawn = [next(toy) for _ in range(count)]
        exchanges = [(f"{one['instruction']}\n{one['input']}".rstrip(), one["output"]) for one in drawn]
        record = write(exchanges, number)
        records.append({(columns or {}).get(name, name): value for name, value in record.items()})
    return records


def tiny_file(format: str, columns: Mapping[str, str] | None, cache: Path) -> Path:
    """Return a JSON file of `tiny_records` in a cache; the first call writes it.

    Raises:
        DataError: If the cache cannot be written to.
    """
    text = json.dumps(tiny_records(format, columns), indent=1)
    path = cache / f"{format}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    try:
        if not path.is_file():
            write_text(path, text)
    except OSError as error:
        raise DataError(
            f"tiny data cannot be written to {cache}: {error.strerror or error}; give another folder (data.cache_dir)"
        ) from error
    return path
