"""Limits on time and memory of what strangers' files make a library do."""

from __future__ import annotations

import os
import re
import sys

import pytest

from lightning_neft.common.limits import beyond_limits


@pytest.fixture(autouse=True)
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_neft.common.limits._SECONDS", 1)


def test_what_ends_and_what_raises_stays_within_the_limits() -> None:
    assert beyond_limits(lambda: "a" * 1000) is None
    assert beyond_limits(lambda: 1 / 0) is None
    assert beyond_limits(sys.exit) is None


def test_what_never_ends_is_stopped_in_an_extension_too() -> None:
    assert beyond_limits(lambda: re.fullmatch("(a+)+b", "a" * 60)) == "it does not end within 1 seconds"


def test_memory_is_limited_beyond_what_there_is_already() -> None:
    assert beyond_limits(lambda: bytearray(1 << 27)) is None
    assert beyond_limits(lambda: bytearray(1 << 40)) == "it needs more than 1024 MB"
    assert beyond_limits(os.abort) == "it needs more than 1024 MB"


def test_nothing_of_it_is_printed_and_no_process_is_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, forked = os.fork, []

    def noted() -> int:
        forked.append(fork())
        return forked[-1]

    monkeypatch.setattr(os, "fork", noted)
    beyond_limits(lambda: os.write(1, b"heard"))
    assert capfd.readouterr() == ("", "")
    (pid,) = forked
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_what_waits_without_working_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_neft.common.limits._LONGEST_WAIT", 0.1)
    assert beyond_limits(lambda: os.read(os.pipe()[0], 1)) == "it does not end within 1 seconds"
