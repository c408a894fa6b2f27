"""Read text files in UTF-8, plain or gzipped; errors name the actual kind of any other file."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lightning_neft.errors import DataError

__all__ = ["GZIP", "opened", "text_chunks", "text_lines"]

GZIP = b"\x1f\x8b"
# First bytes of files that are often given by mistake.
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive or an Excel file",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"ARROW1": "an Arrow file",
    codecs.BOM_UTF16_LE: "text in UTF-16",
    codecs.BOM_UTF16_BE: "text in UTF-16",
}
_CHUNK = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for its bytes, decompressed if its content is gzip.

    Raises:
        DataError: If it cannot be read, or is a broken gzip file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            if start != GZIP:
                yield file
            else:
                with gzip.open(file) as unpacked:
                    yield unpacked  # type: ignore[misc]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: broken gzip file ({error}); compress it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def text_chunks(path: Path) -> Iterator[str]:
    """Yield the text of a file in pieces of about a million characters, without a byte order mark.

    Raises:
        DataError: If it cannot be read, is binary, or is not UTF-8. The message gives the line.
    """
    # utf-8-sig also reads files without the byte order mark that some Windows programs write.
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    with opened(path) as file:
        start = True
        while chunk := file.read(_CHUNK):
            if start:
                _check_kind(path, chunk)
                start = False
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, line, error) from None
            if "\0" in text:
                line += text[: text.index("\0")].count("\n")
                raise DataError(f"{path}, line {line}: a NUL byte; this is not a text file, or one in UTF-16 or UTF-32")
            line += text.count("\n")
            # Empty if the piece is only part of a character.
            if text:
                yield text
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise _not_utf8(path, line, error) from None


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, each with its line feed. Only a line feed ends a line.

    Not str.splitlines, which also splits at characters that JSON allows inside a text, such as U+2028.
    """
    parts: list[str] = []
    for chunk in text_chunks(path):
        first, *others = chunk.split("\n")
        parts.append(first)
        for other in others:
            yield "".join(parts) + "\n"
            parts = [other]
    if last := "".join(parts):
        yield last


def _check_kind(path: Path, start: bytes) -> None:
    for magic, kind in _OTHERS.items():
        if start.startswith(magic):
            raise DataError(f"{path} is {kind}; give JSON, JSON Lines or CSV in UTF-8 (gzip is read too), or Parquet")


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    line += error.object[: error.start].count(b"\n")
    return DataError(f"{path}, line {line}: not UTF-8 ({error.reason}); convert the file to UTF-8")
