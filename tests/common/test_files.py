"""Files and folders that are whole at every moment: of several writers, after a kill, and past what others planted."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forked import Forked
from lightning_neft.common import files
from lightning_neft.common.files import (
    check_replaceable,
    new_file,
    new_folder,
    replaced,
    replacing_file,
    write_bytes,
    write_text,
)
from lightning_neft.errors import ConfigError

MARKER = "ours.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that this package wrote, with an old file."""
    path = tmp_path / "model"
    path.mkdir()
    (path / MARKER).write_text("{}")
    (path / "old").write_text("old")
    return path


@pytest.fixture
def umask() -> Any:
    """A umask that takes something away, whatever that of the tests is."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def replace(folder: Path) -> None:
    with replaced(folder, MARKER) as temporary:
        (temporary / MARKER).write_text("{}")
        (temporary / "new").write_text("new")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("before", "after"), [(None, 0o640), (0o600, 0o600), (0o664, 0o664)])
def test_permissions_are_kept_or_follow_the_umask(tmp_path: Path, before: int | None, after: int) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text("old")
        path.chmod(before)
    write_text(path, "new")
    assert (path.read_text(), mode(path), names(tmp_path)) == ("new", after, ["file"])


def test_the_mode_of_a_folder_is_kept(folder: Path) -> None:
    folder.chmod(0o700)
    replace(folder)
    assert mode(folder) == 0o700


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("secret")
    draws = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(draws))
    (tmp_path / f".file.{'0' * 16}.tmp").symlink_to("secret")
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "file", "new")
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "best").write_text("best")
    (tmp_path / "last").symlink_to("best")
    write_text(tmp_path / "last", "last")
    assert ((tmp_path / "best").read_text(), (tmp_path / "last").is_symlink()) == ("best", False)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_not_a_regular_file_is_never_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "odd")
    with pytest.raises(FileExistsError, match="odd"):
        write_text(tmp_path / "odd", "new")
    assert not (tmp_path / "odd").is_file()
    assert names(tmp_path) == ["odd"]


def test_a_file_that_is_not_written_to_its_end_is_not_there(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(TypeError), replacing_file(tmp_path / "file") as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("when", ["before", "meanwhile", "as a link that leads nowhere"])
def test_a_new_file_replaces_nothing(tmp_path: Path, when: str) -> None:
    path = tmp_path / "file"
    if when == "before":
        path.write_text("theirs")
    elif when != "meanwhile":
        path.symlink_to("nowhere")
    with pytest.raises(FileExistsError), new_file(path):
        path.write_text("theirs")
    assert names(tmp_path) == ["file"]
    assert path.is_symlink() or path.read_text() == "theirs"


def test_a_name_of_the_full_length_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "new")
    assert names(tmp_path) == ["x" * 255]


def test_writers_with_one_process_number_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path, size = tmp_path / "study.json", 100_000

    def write(letter: str) -> int:
        for _ in range(50):
            write_bytes(path, letter.encode() * size)
        return 0

    def run(letter: str) -> Forked:
        return Forked(lambda: write(letter), tmp_path / "log")

    writers = [run(letter) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert content in (b"a" * size, b"b" * size)
    assert [writer.poll() for writer in writers] == [0, 0], (tmp_path / "log").read_text()
    assert names(tmp_path) == ["log", "study.json"]


def test_only_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    path, ready = tmp_path / "x" / "file", tmp_path / "ready"

    def stand_still() -> int:
        with replacing_file(path):
            ready.touch()
            time.sleep(60)
        return 0

    def writer() -> Forked:
        ready.unlink(missing_ok=True)
        found = Forked(stand_still, tmp_path / "log")
        until = time.monotonic() + 30
        while not ready.exists():
            assert time.monotonic() < until
            time.sleep(0.005)
        return found

    # Of another target with the same beginning, and of somebody else.
    path.parent.mkdir()
    others = [f".file.json.{'0' * 16}.tmp", ".file.0.tmp", ".file.tmp"]
    for name in others:
        (path.parent / name).touch()
    writer().send(signal.SIGKILL)
    left = names(path.parent)
    assert len(left) == len(others) + 1
    living = writer()
    try:
        held = names(path.parent)
        assert len(held) == len(others) + 1
        assert held != left
        write_text(path, "new")
        assert names(path.parent) == sorted([*held, "file"])
    finally:
        living.send(signal.SIGKILL)
    write_text(path, "new")
    assert names(path.parent) == sorted([*others, "file"])


def test_a_folder_takes_the_place_of_another(folder: Path) -> None:
    replace(folder)
    assert names(folder) == ["new", MARKER]
    assert names(folder.parent) == ["model"]


def test_an_error_while_it_is_filled_leaves_the_former_one(folder: Path) -> None:
    with pytest.raises(KeyError), replaced(folder, MARKER):
        raise KeyError
    assert names(folder) == ["old", MARKER]
    assert names(folder.parent) == ["model"]


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("after_the_move", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(5, "Input/output error")])
def test_an_error_between_the_moves_loses_neither_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, after_the_move: bool, error: BaseException
) -> None:
    real, count = Path.rename, iter(range(1, 9))

    def rename(self: Path, target: Path) -> Path:
        is_it = next(count) == at
        if is_it and not after_the_move:
            raise error
        found = real(self, target)
        if is_it:
            raise error
        return found

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises((KeyboardInterrupt, OSError)):
        replace(folder)
    assert names(folder) in (["old", MARKER], ["new", MARKER])
    monkeypatch.undo()
    replace(folder)
    assert names(folder) == ["new", MARKER]
    assert names(folder.parent) == ["model"]


def test_the_former_folder_is_restored_if_the_move_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        replace(folder)
    assert names(folder) == ["old", MARKER]
    assert names(folder.parent) == ["model"]


def test_the_next_writer_restores_a_folder_after_a_kill(folder: Path) -> None:
    def run() -> int:
        real = Path.rename

        def rename(self: Path, target: Path) -> Path:
            found = real(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
            return found

        Path.rename = rename  # type: ignore[method-assign, assignment]
        replace(folder)
        return 0

    assert Forked(run, folder.parent / "log").wait() == -signal.SIGKILL
    assert not folder.exists()
    with pytest.raises(KeyError), replaced(folder, MARKER):
        raise KeyError
    assert names(folder) == ["old", MARKER]
    assert names(folder.parent) == ["log", "model"]


def test_several_writers_of_one_folder_leave_one_whole_one(folder: Path) -> None:
    def run() -> int:
        for _ in range(20):
            replace(folder)
        return 0

    log = folder.parent / "log"
    writers = [Forked(run, log) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0], log.read_text()
    assert names(folder) == ["new", MARKER]
    assert names(folder.parent) == ["log", "model"]


def test_a_link_to_a_folder_is_followed(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to("model")
    replace(link)
    assert names(folder) == ["new", MARKER]
    assert names(folder.parent) == ["link", "model"]
    assert link.is_symlink()


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    replace(tmp_path / "model")
    assert names(tmp_path / "model") == ["new", MARKER]


@pytest.mark.parametrize("what", ["files of somebody", "a file", "a pipe"])
def test_what_this_package_did_not_write_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "thesis"
    if what == "a file":
        path.write_text("x")
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
        (path / "chapter").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis.*(holds files but no ours\.json|is not a folder).*give another"):
        replace(path)
    assert names(tmp_path) == ["thesis"]
    assert not path.is_dir() or names(path) == ["chapter"]


def test_a_folder_that_is_not_moved_is_removed(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "tokens") as temporary:
        (temporary / "half").touch()
        assert temporary.parent == tmp_path / "a"
    assert names(tmp_path / "a") == []


@pytest.mark.usefixtures("umask")
def test_what_replaces_a_link_has_the_mode_of_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "best").write_text("best")
    (tmp_path / "best").chmod(0o666)
    (tmp_path / "last").symlink_to("best")
    write_text(tmp_path / "last", "last")
    assert mode(tmp_path / "last") == 0o640


def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, found = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda number: found.append((os.fstat(number).st_size, path.exists())))
    with replacing_file(path, durable=True) as file:
        file.write(b"new")
    assert found == [(3, False)]


def test_a_folder_with_files_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / MARKER).write_text(json.dumps({"files": ["a", MARKER]}))
    (folder / "a").write_text("1")
    check_replaceable(folder, MARKER)
    for name in ("notes.txt", "notes2.txt"):
        (folder / name).write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes\.txt and 1 more, which lightning_neft did not write"):
        check_replaceable(folder, MARKER)
