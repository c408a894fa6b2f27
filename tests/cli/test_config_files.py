"""A class of the current folder, given by its path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightning_neft.cli.config_files import make_local_classes_importable


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path as an installed program has it: without the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    for name in ("my_own_callbacks.py", "json.py"):
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    "text",
    ["--trainer.callbacks+=my_own_callbacks.Mine", "trainer:\n  callbacks: [{class_path: my_own_callbacks.A.B}]"],
)
def test_its_folder_comes_last_on_the_path(text: str, tmp_path: Path) -> None:
    before = list(sys.path)
    make_local_classes_importable([text])
    assert sys.path == [*before, str(tmp_path)]


@pytest.mark.parametrize(
    "text",
    ["--trainer.logger=json.JSONDecoder", "--data.source=data/my_own_callbacks.py", "my_own_callbacks", "no.one"],
)
def test_no_other_word_changes_the_path(text: str) -> None:
    before = list(sys.path)
    make_local_classes_importable([text])
    assert sys.path == before
