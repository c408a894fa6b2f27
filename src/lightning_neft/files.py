"""Write files so that nobody ever sees half of one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["file_in_the_way", "write_bytes", "write_text"]


def file_in_the_way(folder: Path) -> Path | None:
    """Return the file because of which there can be no folder of this name, or None.

    Example:
        >>> file_in_the_way(Path(__file__) / "folder") == Path(__file__)
        True
    """
    first = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return first if first.is_file() else None


def write_text(path: Path, text: str) -> None:
    r"""Write a file in UTF-8 under a temporary name beside it, then move it to its place.

    Half of a surrogate pair, which is no character, is written as its escape, `\ud800`: in JSON it is read as it was.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, then move it to its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
