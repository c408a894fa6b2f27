"""Short names of sources, for messages and for the names of metrics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

__all__ = ["source_names"]

_ENDINGS = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet)(\.gz)?$", re.IGNORECASE)


def source_names(sources: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """Return a different name for each source.

    Args:
        sources: The source as given (file, pattern, folder, catalogue name or hub id), its subset and its split.

    Example:
        >>> source_names([("alpaca_1k.json", None, None), ("owner/mmlu", "law", None), ("owner/mmlu", "art", None)])
        ['alpaca_1k', 'mmlu-law', 'mmlu-art']
        >>> source_names([("a/chat.jsonl.gz", None, None), ("b/chat.json", None, None), ("parts/*.jsonl", None, None)])
        ['chat', 'chat-2', 'parts']
    """
    names = [_name(source) for source, _, _ in sources]
    for which in (1, 2):
        counts = Counter(names)
        names = [
            f"{name}-{_clean(part)}" if counts[name] > 1 and (part := source[which]) else name
            for name, source in zip(names, sources, strict=True)
        ]
    found: list[str] = []
    for name in names:
        number = 1
        while (unique := name if number == 1 else f"{name}-{number}") in found:
            number += 1
        found.append(unique)
    return found


def _name(source: str) -> str:
    """Return the last part of a path or id that has a letter or a digit, without the ending of a data file."""
    parts = PurePath(_ENDINGS.sub("", source)).parts
    return next((name for part in reversed(parts) if (name := _clean(part))), "data")


def _clean(text: str) -> str:
    # What all loggers accept in the name of a metric.
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("_.-")
