"""Paths that a user gives: `~` is expanded only here, and an output never replaces an input."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from lightning_neft.errors import ConfigError

__all__ = ["check_new", "check_output", "file_in_the_way", "is_address", "is_same_file", "numbered", "user_path"]


def is_address(given: str | Path) -> bool:
    """Return whether a user gave a URL, such as s3://bucket/x, where a path is expected.

    Example:
        >>> is_address("s3://bucket/x"), is_address("runs/x")
        (True, False)
    """
    return re.match(r"[A-Za-z][\w+.-]*://", str(given)) is not None


def user_path(given: str | Path, option: str = "") -> Path:
    """Return a path given by a user, with `~` and `~user` expanded.

    Args:
        given: The path, as given.
        option: Its option or key, for messages.

    Raises:
        ConfigError: There is no such user, or it contains a NUL character.

    Example:
        >>> user_path("runs/~/x", "--out")
        PosixPath('runs/~/x')
    """
    where = f"{option} " if option else ""
    if "\0" in str(given):
        raise ConfigError(f"{where}{str(given)!r} contains a NUL character, which no path has; remove it")
    path = Path(given)
    if not str(given).startswith("~"):
        # Without its ./ later code would mistake it for a home folder.
        return Path.cwd() / path if str(path).startswith("~") else path
    try:
        return path.expanduser()
    except RuntimeError as error:
        user = Path(given).parts[0]
        raise ConfigError(
            f"{where}{given}: {user} has no home folder here; write the folder out, or ./{given} for a folder of that "
            "name"
        ) from error


def file_in_the_way(folder: Path) -> Path | None:
    """Return the file that prevents a folder of this name, or None.

    Example:
        >>> file_in_the_way(Path(__file__) / "folder") == Path(__file__)
        True
    """
    first = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return first if first.is_file() else None


def is_same_file(first: Path, second: Path) -> bool:
    """Return whether two paths are the same file, also through symbolic and hard links; it need not exist."""
    if os.path.exists(first) and os.path.exists(second):  # noqa: PTH110
        return os.path.samefile(first, second)  # noqa: PTH121
    return _real(first) == _real(second)


def check_output(path: Path, option: str, inputs: Iterable[Path] = ()) -> Path:
    """Return the file to which an output is written, with symbolic links followed, after checking it.

    Args:
        path: The path that the user gave.
        option: The option, for messages.
        inputs: Files that the same command reads.

    Raises:
        ConfigError: It is an input, or neither a regular file nor a name for one.
    """
    for source in inputs:
        if is_same_file(path, source):
            raise ConfigError(f"{option} {path} is an input of this command ({source}); give another file")
    try:
        mode = path.stat().st_mode
    # Nothing exists below a file either; the code that creates the folder reports that file.
    except (FileNotFoundError, NotADirectoryError):
        parent = next((folder for folder in path.absolute().parents if folder.exists()), None)
        if parent is not None and parent.is_dir() and not os.access(parent, os.W_OK):
            raise ConfigError(f"{option} {path} cannot be written: no permission in {parent}") from None
        return _followed(path)
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be used: {error.strerror}; give another file") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file, and is never replaced"
        raise ConfigError(f"{option} {path} is {what}; give a file")
    return _followed(path)


def check_new(path: Path, option: str, *, overwrite: bool, inputs: Iterable[Path] = ()) -> Path:
    """Return the file to which an output is written; an existing file needs `overwrite`.

    Args:
        path: The path that the user gave.
        option: The option, for messages.
        overwrite: Whether an existing file may be replaced.
        inputs: Files that the same command reads.

    Raises:
        ConfigError: It is an input, exists, or cannot be a file.
    """
    found = check_output(path, option, inputs)
    if found.exists() and not overwrite:
        raise ConfigError(f"{option} {path} exists; give another name, or --overwrite")
    return found


def numbered(path: Path) -> Path:
    """Return the path, or if it exists the first free one of NAME-2, NAME-3 and so on."""
    found, number = path, 1
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def _followed(path: Path) -> Path:
    return _real(path) if path.is_symlink() else path


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a cycle of links
        raise ConfigError(f"{path} is a symbolic link that leads to itself; give another path") from error
