"""Write files and folders atomically: no reader sees a partial one, and nothing is lost before the new one is complete.

Each is written under a random name next to its destination, and its writer holds a lock on it. Concurrent writers, also
in containers that share a folder, do not interfere; leftovers of a killed writer are recognised by their free lock.
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
# A name may have 255 bytes; the temporary one adds some.
_LONGEST_NAME = 200
# On a file system without locks nothing counts as a leftover.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8 atomically; see `replacing_file`.

    Half of a surrogate pair is not a character; it is written as its escape, `\ud800`, which JSON reads back.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; see `replacing_file`."""
    with replacing_file(path) as file:
        file.write(content)


@contextmanager
def replacing_file(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` at the end of the block, unless the block raises.

    An existing file passes on its permissions; those of a new file follow the umask. A symbolic link of this name is
    replaced, and its target does not change.

    Args:
        path: The file; its folder is created if needed.
        durable: Whether to wait until the content is on the disk.

    Raises:
        OSError: It cannot be written, or `path` is not a regular file, but a device, for example.
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
    """Open a temporary file that is moved to `path` at the end of the block, unless the block raises.

    Raises:
        FileExistsError: `path` exists, at the start or at the end.
        OSError: It cannot be written.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with _temporary_file(path) as (file, temporary):
        yield file
        file.flush()
        # Unlike a move, this fails if the file exists.
        os.link(temporary, path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Create an empty folder next to `path`, to be filled and moved there; at the end it is removed if still here.

    The parent is created if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    while True:
        temporary = _temporary_name(path, _NEW)
        temporary.mkdir()
        lock = _open_folder(temporary)
        # Before it was locked, another writer may have removed it as a leftover.
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
        folder: The folder, which need not exist.
        marker: Name of a JSON file in each folder that this package writes; its key `files` lists all names in it.

    Raises:
        ConfigError: It is not a folder, or holds files that the marker does not list.
    """
    try:
        lock = _lock_folder(folder.resolve())
    except NotADirectoryError:
        raise ConfigError(f"{folder} is not a folder, and is not replaced; give another folder") from None
    if lock is None:
        return
    # List the open folder: another writer may move it meanwhile.
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
    """Return the names that a marker lists; all names if it lists none or is gone."""
    try:
        listed = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set(names)
    return set(listed)


@contextmanager
def replaced(folder: Path, marker: str) -> Iterator[Path]:
    """Create an empty folder that replaces `folder` at the end of the block, unless the block raises.

    At any time one of the two exists completely: under its name, or, after a kill between the two moves, under a
    temporary name, from which the next writer restores it. A symbolic link is followed.

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
    """Move a folder to its place; the former folder has the temporary name afterwards."""
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
            # Also Ctrl-C between the two moves: the new folder is complete.
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
    """Move a folder; return False if another writer was faster."""
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
        FileExistsError: It is not a regular file, which a file may not replace.
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
    """Yield a new file next to a path, open and locked, and its name; it is removed at the end if it was not moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    while True:
        temporary = _temporary_name(path, _FILE)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # The umask of the user reduces 0o666.
        number = os.open(temporary, flags, 0o666)
        # Before it was locked, another writer may have removed it as a leftover.
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
    """Remove the leftovers of killed writers next to a path; a folder that they had moved away is restored."""
    pattern = re.compile(rf"\.{re.escape(_short(path.name))}\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}\.({_FILE}|{_NEW}|{_OLD})")
    # The folder cannot be listed, or another process clears the same.
    with suppress(OSError):
        for left in list(path.parent.iterdir()):
            if found := pattern.fullmatch(left.name):
                with suppress(OSError):
                    _clear_one(left, found[1], path)


def _clear_one(left: Path, ending: str, path: Path) -> None:
    number = os.open(left, (os.O_RDWR if ending == _FILE else os.O_DIRECTORY) | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Not _is_locked_now: without locks, it may be in use.
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if ending == _FILE:
            left.unlink()
        elif ending == _OLD and not path.exists():
            left.rename(path)
        else:
            shutil.rmtree(left)
    finally:
        os.close(number)
