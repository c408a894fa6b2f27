"""A changed, a missing and a superfluous snapshot fail; writing keeps what was not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshots import Key, Snapshots, masked

FIRST, SECOND, PLAIN = Key("test_a", "one"), Key("test_a", "two"), Key("test_b", "")
TEXTS = {FIRST: "got 5", SECOND: "two lines\n\n  == the second indented", PLAIN: ""}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module of three tests with their snapshots."""
    file = tmp_path / "tests" / "test_it.py"
    file.parent.mkdir()
    writing = Snapshots(file, is_writing=True)
    for key, text in TEXTS.items():
        writing.compare(key, text)
    writing.finish(list(TEXTS), is_whole=True)
    return file


def test_what_was_written_is_read(module: Path) -> None:
    reading = Snapshots(module, is_writing=False)
    written = reading.file.read_text(encoding="utf-8")
    for key, text in TEXTS.items():
        reading.compare(key, text)
    reading.finish(list(TEXTS), is_whole=True)
    assert reading.file.read_text(encoding="utf-8") == written


def test_a_changed_text_fails_with_the_command(module: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"tests/test_it.py --write-snapshots[^$]*- got 5\n[^$]*\+ got 6"):
        Snapshots(module, is_writing=False).compare(FIRST, "got 6")


def test_a_missing_entry_fails(module: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="no entry for test_c"):
        Snapshots(module, is_writing=False).compare(Key("test_c", ""), "got 6")


def test_an_entry_without_a_test_fails_and_is_dropped(module: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"no test has .*test_a\[one\]"):
        Snapshots(module, is_writing=False).finish([SECOND, PLAIN], is_whole=True)
    Snapshots(module, is_writing=True).finish([SECOND, PLAIN], is_whole=True)
    Snapshots(module, is_writing=False).finish([SECOND, PLAIN], is_whole=True)


def test_writing_one_keeps_the_others_in_order(module: Path) -> None:
    before = Snapshots(module, is_writing=False).file.read_text(encoding="utf-8")
    writing = Snapshots(module, is_writing=True)
    writing.compare(FIRST, "got 6")
    writing.finish([FIRST], is_whole=False)
    assert writing.file.read_text(encoding="utf-8") == before.replace("got 5", "got 6")


def test_a_temporary_folder_is_masked(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert masked(f"{tmp_path}/a.json: no", tmp_path_factory.getbasetemp()) == "TMP/a.json: no"
