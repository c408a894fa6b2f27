"""A few samples of the toy data in each data format, for smoke tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_neft.common.files import write_text
from lightning_neft.data.toy import toy_instructions
from lightning_neft.errors import DataError

__all__ = ["TINY_FORMATS", "TINY_SAMPLES", "tiny_file", "tiny_records"]

TINY_SAMPLES = 12
"""Number of samples of each format."""
# Exchanges of a sample: separate turns in the formats that have them, one text in the others.
_SHORT, _LONG = 3, 30

_Exchange = tuple[str, str]


def _alpaca(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    instruction, _, given = exchanges[0][0].partition("\n")
    return {"instruction": instruction, "input": given, "output": _answer(exchanges)}


def _sharegpt(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    return {"conversations": _turns(exchanges, "from", "value", ("human", "gpt"))}


def _messages(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    return {"messages": _turns(exchanges, "role", "content", ("user", "assistant"))}


def _prompt_completion(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    return {"prompt": exchanges[0][0], "completion": _answer(exchanges)}


def _source_target(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    return {"source": exchanges[0][0], "target": _answer(exchanges)}


def _guanaco(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    return {"text": "".join(f"### Human: {asked}### Assistant: {answer}" for asked, answer in exchanges)}


def _text(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    return {"text": "\n".join(f"{asked}\n{answer}" for asked, answer in exchanges)}


def _text_label(exchanges: Sequence[_Exchange], number: int) -> dict[str, Any]:
    return {**_text(exchanges, number), "label": number % 2}


def _turns(exchanges: Sequence[_Exchange], by: str, said: str, roles: tuple[str, str]) -> list[dict[str, str]]:
    return [{by: role, said: text} for exchange in exchanges for role, text in zip(roles, exchange, strict=True)]


def _answer(exchanges: Sequence[_Exchange]) -> str:
    return " ".join(answer for _, answer in exchanges)


_WRITERS: dict[str, Callable[[Sequence[_Exchange], int], dict[str, Any]]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "guanaco": _guanaco,
    "text": _text,
    "text_label": _text_label,
    "source_target": _source_target,
}
TINY_FORMATS: tuple[str, ...] = tuple(_WRITERS)
"""The names of the formats."""


def tiny_records(format: str, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return a few toy samples as records of a data format.

    Most are short; the last two are longer than the rows of any smoke test, so they are truncated.

    Args:
        format: One of `TINY_FORMATS`.
        columns: Names of columns that differ from the format's, such as `{"output": "answer"}`.

    Example:
        >>> tiny_records("alpaca", {"output": "answer"})[0]
        {'instruction': 'Find the odd word.', 'input': 'train, hammer, axe', 'answer': 'train'}
    """
    toy = iter(toy_instructions("train"))
    records = []
    for number in range(TINY_SAMPLES):
        count = _LONG if number >= TINY_SAMPLES - 2 else 1 + number % _SHORT
        drawn = [next(toy) for _ in range(count)]
        exchanges = [(f"{one['instruction']}\n{one['input']}".rstrip(), one["output"]) for one in drawn]
        record = _WRITERS[format](exchanges, number)
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
