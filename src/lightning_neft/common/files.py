"""Write files and folders so that nobody ever sees half of one, and nothing that was there is lost on the way.

What is being written has a random name beside its place, and its writer holds a lock on it. So several writers, also in
containers that share a folder, never meet, and what a killed one left behind is known by its lock, which is free.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lightning_neft.errors import ConfigError

__all__ = [
    "check_replaceable",
    "new_file",
    "new_folder",
    "replaced",
    "replacing_file",
    "write_bytes",
    "write_text",
]

_FILE, _NEW, _OLD = "tmp", "new", "old"
_RANDOM_BYTES = 8
# A name may have 255 bytes, of which the temporary one needs some for itself.
_LONGEST_NAME = 200
# Where a file system has no locks nothing counts as left behind.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)


def write_text(path: Path, text: str) -> None:
    r"""Write a file in UTF-8, whole or not at all; see `replacing_file`.

    Half of a surrogate pair, which is no character, is written as its escape, `\ud800`: in JSON it is read as it was.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; see `replacing_file`."""
    with replacing_file(path) as file:
        file.write(content)


@contextmanager
def replacing_file(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes the place of `path` at the end of the block, unless it ends with an error.

    The permissions of a file that is there are kept; those of a new one follow the umask. A symbolic link of this name
    is replaced, what it leads to stays as it is.

    Args:
        path: The file; its folder is made if it is not there.
        durable: Whether to wait until the content is on the disk.

    Raises:
        OSError: It cannot be written, or something is there that is no regular file, such as a device.
    """
    before = _mode_of_regular(path)
    with _temporary_file(path) as (file, temporary):
        if before is not None:
            os.fchmod(file.fileno(), before)
        yield file
        file.flush()
        if durable:
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to, which is at `path` at the end of the block, unless it ends with an error.

    Raises:
        FileExistsError: Something of this name is there, at the start or at the end.
        OSError: It cannot be written.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with _temporary_file(path) as (file, temporary):
        yield file
        file.flush()
        # Unlike a move this fails where a file is.
        os.link(temporary, path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill and move there; what of it is still here at the end is removed.

    The parent is made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    while True:
        temporary = _temporary_name(path, _NEW)
        temporary.mkdir()
        lock = _open_folder(temporary)
        # Another writer may have taken it for one that was left behind, before it was locked.
        if lock is not None and _is_locked_now(lock) and _is_there(temporary, lock):
            break
        if lock is not None:
            os.close(lock)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def check_replaceable(folder: Path, marker: str) -> None:
    """Check that a folder may be replaced as a whole.

    Args:
        folder: The folder, which need not be there.
        marker: Name of a JSON file in each folder that this package writes; its `files` are the names of all in it.

    Raises:
        ConfigError: There is something else of that name, or a folder that holds files which the marker does not list.
    """
    try:
        lock = _lock_folder(folder.resolve())
    except NotADirectoryError:
        raise ConfigError(f"{folder} is not a folder, and is not replaced; give another folder") from None
    if lock is None:
        return
    # Of the open folder: another writer may move it in the meantime.
    names = os.listdir(lock)  # noqa: PTH208
    os.close(lock)
    if names and marker not in names:
        raise ConfigError(
            f"the folder {folder} holds files but no {marker}, so lightning_neft did not write it and does not replace "
            "it; give another folder, or empty it"
        )
    if added := sorted(set(names) - _listed(folder / marker, names)):
        raise ConfigError(
            f"the folder {folder} holds {added[0]}{f' and {len(added) - 1} more' if added[1:] else ''}, which "
            "lightning_neft did not write and does not replace; move what is yours, or give another folder"
        )


def _listed(marker: Path, names: Sequence[str]) -> set[str]:
    """Return the names that a marker lists; all of them if it lists none, or is gone by now."""
    try:
        listed = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set(names)
    return set(listed)


@contextmanager
def replaced(folder: Path, marker: str) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` at the end of the block, unless it ends with an error.

    At every moment one of the two is there whole: under its name, or, after a kill between the two moves, under a
    temporary one, from which the next writer brings it back. A symbolic link is followed.

    Args:
        folder: The folder.
        marker: See `check_replaceable`.

    Raises:
        ConfigError: It may not be replaced.
        OSError: It cannot be written.
    """
    folder = folder.resolve()
    check_replaceable(folder, marker)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as temporary:
        yield temporary
        _swap(folder, temporary)


def _swap(folder: Path, temporary: Path) -> None:
    """Move a folder to its place; what was there has the temporary name afterwards."""
    former = temporary.with_suffix(f".{_OLD}")
    is_there = False
    while not is_there:
        lock = _lock_folder(folder)
        try:
            # A folder cannot be moved onto one that is not empty.
            if lock is not None:
                temporary.chmod(stat.S_IMODE(os.fstat(lock).st_mode))
                folder.rename(former)
            is_there = _moved(temporary, folder)
        except BaseException:
            # Also Ctrl-C between the two moves: the new one is whole, and the user has asked for it.
            if temporary.exists() and not folder.exists():
                try:
                    temporary.rename(folder)
                except OSError:
                    former.rename(folder)
            raise
        finally:
            try:
                if not temporary.exists() and former.exists():
                    former.rename(temporary)
                elif folder.exists():
                    shutil.rmtree(former, ignore_errors=True)
            finally:
                if lock is not None:
                    os.close(lock)


def _moved(temporary: Path, folder: Path) -> bool:
    """Move a folder; return False if another writer has put one there first."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _lock_folder(folder: Path) -> int | None:
    """Open and lock a folder, once no other writer moves it; return None if there is none."""
    while (number := _open_folder(folder)) is not None:
        with _without_locks():
            fcntl.flock(number, fcntl.LOCK_EX)
        if _is_there(folder, number):
            break
        os.close(number)
    return number


def _open_folder(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _mode_of_regular(path: Path) -> int | None:
    """Return the permissions of the file of this name; None if there is none, or a symbolic link.

    Raises:
        FileExistsError: There is something that a file may not replace.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(mode):
        return None
    if not stat.S_ISREG(mode):
        what = "is a folder" if stat.S_ISDIR(mode) else "not a regular file, and is never replaced"
        raise FileExistsError(errno.EEXIST, what, str(path))
    return stat.S_IMODE(mode)


@contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Give a new file beside a path, open and locked, and its name; it is removed at the end if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    while True:
        temporary = _temporary_name(path, _FILE)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # 0o666: what the umask takes away is for the user to say.
        number = os.open(temporary, flags, 0o666)
        # Another writer may have taken it for one that was left behind, before it was locked.
        if _is_locked_now(number) and _is_there(temporary, number):
            break
        os.close(number)
    try:
        with os.fdopen(number, "wb") as file:
            yield file, temporary
    except OSError as error:
        # A full disk is reported without a name; the temporary one is not the user's.
        if error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_name(path: Path, ending: str) -> Path:
    return path.with_name(f".{_short(path.name)}.{secrets.token_hex(_RANDOM_BYTES)}.{ending}")


def _short(name: str) -> str:
    return name if len(os.fsencode(name)) <= _LONGEST_NAME else hashlib.sha256(os.fsencode(name)).hexdigest()


def _is_there(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(number))
    except FileNotFoundError:
        return False


def _is_locked_now(number: int) -> bool:
    """Lock an open file or folder; return False if another process has locked it."""
    try:
        with _without_locks():
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _without_locks() -> Iterator[None]:
    """Continue where the file system has no locks."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _clear(path: Path) -> None:
    """Remove what killed writers of a path have left beside it; a folder that they had moved away is moved back."""
    pattern = re.compile(rf"\.{re.escape(_short(path.name))}\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}\.({_FILE}|{_NEW}|{_OLD})")
    # A folder that cannot be listed, or from which another process clears the same.
    with suppress(OSError):
        for left in list(path.parent.iterdir()):
            if found := pattern.fullmatch(left.name):
                with suppress(OSError):
                    _clear_one(left, found[1], path)


def _clear_one(left: Path, ending: str, path: Path) -> None:
    number = os.open(left, (os.O_RDWR if ending == _FILE else os.O_DIRECTORY) | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Not _is_locked_now: where there are no locks, it may be in use.
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if ending == _FILE:
            left.unlink()
        elif ending == _OLD and not path.exists():
            left.rename(path)
        else:
            shutil.rmtree(left)
    finally:
        os.close(number)
