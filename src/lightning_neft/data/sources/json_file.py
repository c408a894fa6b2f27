"""Read a JSON array of objects, or JSON Lines, record by record, whichever the file contains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_neft.data.formats.format import shown
from lightning_neft.data.sources.records import Record
from lightning_neft.data.sources.text import text_chunks, text_lines
from lightning_neft.errors import DataError

__all__ = ["json_records"]

_FORM = "a JSON array of objects, or one object per line"
# White space in JSON.
_SPACE = " \t\r\n"
# Maximum characters of a token that the end of a piece may split: two \uXXXX escapes.
_TAIL = 12


def json_records(path: Path) -> Iterator[tuple[Record, str]]:
    """Yield each record with "PATH, record N" for an array, "PATH, line N" for JSON Lines. Blank lines are skipped.

    An array is read piece by piece too, so memory holds one record and a million characters of text.

    Raises:
        DataError: If the file is empty or not JSON, or a record is not an object. The message gives the line.
    """
    start = next((stripped for chunk in text_chunks(path) if (stripped := chunk.lstrip(_SPACE))), "")
    if not start:
        raise DataError(f"{path} is empty; expected {_FORM}")
    if start[0] != "[":
        yield from _lines(path)
        return
    number = 0
    for number, value in enumerate(_array(path), start=1):
        yield _object(value, where := f"{path}, record {number}"), where
    if not number:
        raise DataError(f"{path} is an empty list; expected {_FORM}")


def _lines(path: Path) -> Iterator[tuple[Record, str]]:
    for number, line in enumerate(text_lines(path), start=1):
        if line.strip(_SPACE):
            where = f"{path}, line {number}"
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise _broken(path, number, error.colno, error.msg) from None
            except (RecursionError, ValueError):
                raise _beyond(where) from None
            yield _object(value, where), where


def _array(path: Path) -> Iterator[Any]:
    """Yield the values of a JSON array."""
    text = _Window(path)
    text.next()
    more = text.next() != "]"
    while more:
        yield text.value()
        mark = text.next()
        if mark not in (",", "]"):
            raise text.error("Expecting ',' delimiter")
        more = mark == ","
        if more and text.next() == "]":
            raise text.error("Illegal trailing comma before end of array")
    if text.next():
        raise text.error("Extra data")


class _Window:
    """A window that moves over the text of a file.

    Args:
        path: A file in UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = json.JSONDecoder()
        self._chunks = text_chunks(path)
        self._text = ""
        # Of the last character that `next` returned.
        self._position = -1
        # Of the window's first character: its line, and the number of characters before it in that line.
        self._line, self._column = 1, 0

    def next(self) -> str:
        """Move to the next character that is not white space and return it, or an empty text at the end."""
        self._position += 1
        while self._position < len(self._text) or self._more():
            if (character := self._text[self._position]) not in _SPACE:
                return character
            self._position += 1
        return ""

    def value(self) -> Any:
        """Return the value that begins at the last character, and move to its end.

        Raises:
            DataError: If it is broken.
        """
        while not (found := self._decoded()):
            pass
        value, self._position = found
        return value

    def _decoded(self) -> tuple[Any, int] | None:
        """Return the value and the position of its end, or None if more text had to be read."""
        try:
            value, end = self._decoder.raw_decode(self._text, self._position)
        except json.JSONDecodeError as error:
            is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _TAIL
            if is_cut and self._more():
                return None
            self._position = error.pos
            raise self.error(error.msg) from None
        except (RecursionError, ValueError):
            raise _beyond(f"{self._path}, line {self._place()[0]}") from None
        # A number may continue in the next piece, but is not a record anyway.
        return value, end - 1

    def error(self, message: str) -> DataError:
        """Return an error about the last character."""
        return _broken(self._path, *self._place(), message)

    def _more(self) -> bool:
        """Drop the used text and at least double the rest, so that a huge value is decoded only a few times.

        Returns:
            Whether there was more text.
        """
        line, column = self._place()
        pieces = [self._text[self._position :]]
        wanted = max(1, len(pieces[0]))
        while wanted > 0 and (chunk := next(self._chunks, "")):
            pieces.append(chunk)
            wanted -= len(chunk)
        if len(pieces) == 1:
            return False
        self._text, self._position = "".join(pieces), 0
        self._line, self._column = line, column - 1
        return True

    def _place(self) -> tuple[int, int]:
        """Return the line and the column of the last character, both from 1."""
        feeds = self._text.count("\n", 0, self._position)
        before = self._text.rfind("\n", 0, self._position) if feeds else -1 - self._column
        return self._line + feeds, self._position - before


def _object(value: Any, where: str) -> Record:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object with named columns, got {shown(value)}")
    return value


def _broken(path: Path, line: int, column: int, message: str) -> DataError:
    return DataError(f"{path}, line {line}, column {column}: broken JSON ({message}); expected {_FORM}")


def _beyond(where: str) -> DataError:
    return DataError(f"{where}: nested too deeply, or a number of thousands of digits; expected {_FORM}")
