"""Read instruction files in Alpaca's form: a JSON array of objects, or one object a line (JSON Lines)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_neft.data.sample import Sample
from lightning_neft.errors import DataError

__all__ = ["read_alpaca"]

_FORM = 'a JSON array, or one object a line, of {"instruction": ..., "input": ..., "output": ...}'


def read_alpaca(path: str | Path) -> list[Sample]:
    """Read the samples of a file, in its order. "input" may be missing, null or empty; other keys are ignored.

    Args:
        path: A `.json` or `.jsonl` file in UTF-8. Its content decides which of the two forms it has, not its name.

    Raises:
        DataError: If the file is missing, a folder, not UTF-8, not JSON, empty, or if a record lacks a key or holds
            something else than text. The message names the file and the line or record.
    """
    path = Path(path)
    text = _read_text(path)
    samples = [_sample(record, where) for record, where in _records(text, path)]
    if not samples:
        raise DataError(f"{path} holds an empty list: it has no sample to train on; expected {_FORM}")
    return samples


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the JSON or JSON Lines file in it")
    try:
        # utf-8-sig also reads files without the byte order mark that some Windows programs put in front.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist (looked in {Path.cwd()}); give the path of a file, or toy") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason}); convert the file to UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise DataError(f"{path} is empty; expected {_FORM}")
    return text


def _records(text: str, path: Path) -> Iterator[tuple[Any, str]]:
    """Yield each record with the words that say where it stands."""
    if text.lstrip().startswith("["):
        for number, record in enumerate(_parse(text, path), start=1):
            yield record, f"{path}, record {number}"
        return
    # Not str.splitlines: it also splits at characters that JSON allows inside a text, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _parse(line, path, first_line=number), f"{path}, line {number}"


def _parse(text: str, path: Path, first_line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(
            f"{path}, line {line}, column {error.colno}: broken JSON ({error.msg}); expected {_FORM}"
        ) from None


def _sample(record: Any, where: str) -> Sample:
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object with instruction and output, got {_shown(record)}")
    missing = [key for key in ("instruction", "output") if key not in record]
    if missing:
        found = ", ".join(map(str, record)) or "none"
        raise DataError(f"{where}: no {' and no '.join(map(repr, missing))} (keys found: {found}); add what is missing")
    texts = {}
    for key in ("instruction", "input", "output"):
        value = record.get(key)
        if value is None and key == "input":
            value = ""
        if not isinstance(value, str):
            raise DataError(f"{where}: {key!r} must be text, got {_shown(value)}")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(f"{where}: {key!r} holds half of a surrogate pair, which is no character; repair the text")
        texts[key] = value
    return Sample(**texts)


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
