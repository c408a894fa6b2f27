"""A folder for each case, and a cache of tokens outside of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from bad_input.refusals import Case, check, without_foreign


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all cases: most of them read the same data."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the case."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    # Without a network the hub's own library tries for half a minute before it says so.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def assert_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> Callable[[Case], None]:
    """Asserts that a case of a table is refused (see `check`), and that its line is that of the test's snapshot."""

    def checked(case: Case) -> None:
        line = check(case, folder, capsys)
        if not case.is_foreign:
            snapshot(without_foreign(line))

    return checked


@pytest.fixture
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Mounts an empty file system of memory with some options."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path_factory.mktemp("mounted")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems can be mounted by root alone, and not in every container")
        places.append(place)
        return place

    yield mount
    for place in places:
        # A logger may have its file open still.
        subprocess.run(["umount", "--lazy", str(place)], check=True)
