"""Paths of users: the home folder, and which files an output may take the place of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightning_neft.common.paths import check_new, check_output, is_same_file, numbered, user_path
from lightning_neft.errors import ConfigError

SOURCE = Path(__file__).parents[2] / "src"


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x"
    assert user_path("~") == tmp_path
    assert user_path("a/~/x") == Path("a/~/x")
    assert user_path(user_path("./~x")) == Path.cwd() / "~x"


@pytest.mark.parametrize(
    ("given", "says"), [("~nobody-here/x", "~nobody-here has no home folder here"), ("a\0b", "NUL")]
)
def test_what_is_not_a_path_is_one_line(given: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^--out .*{says}.*[^\n]$"):
        user_path(given, "--out")


def test_nothing_else_expands_a_home_folder() -> None:
    found = [path.name for path in SOURCE.rglob("*.py") if "expanduser" in path.read_text(encoding="utf-8")]
    assert found == ["paths.py"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_an_input_is_that_input(tmp_path: Path, link: object) -> None:
    source = tmp_path / "a.json"
    source.write_text("a")
    link(source, tmp_path / "b.json")  # type: ignore[operator]
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"--out .*b\.json is an input of this command"):
            check_new(tmp_path / "b.json", "--out", overwrite=overwrite, inputs=[source])
    assert not is_same_file(tmp_path / "b.json", tmp_path / "c.json")


def test_a_file_that_exists_needs_the_option(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with pytest.raises(ConfigError, match="exists; give another name, or --overwrite"):
        check_new(tmp_path / "a", "--out", overwrite=False)
    assert check_new(tmp_path / "a", "--out", overwrite=True) == tmp_path / "a"
    assert check_new(tmp_path / "b", "--out", overwrite=False) == tmp_path / "b"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    assert check_output(tmp_path / "link", "--out") == tmp_path / "there"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(ConfigError, match="round"):
        check_output(tmp_path / "round", "--out")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_not_a_regular_file_is_refused(tmp_path: Path, make: object) -> None:
    make(tmp_path / "odd")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"odd is (a folder|not a regular file, and is never replaced); give a file"):
        check_output(tmp_path / "odd", "--out")


def test_the_next_free_name_is_numbered(tmp_path: Path) -> None:
    assert numbered(tmp_path / "a.json") == tmp_path / "a.json"
    (tmp_path / "a.json").touch()
    (tmp_path / "a-2.json").symlink_to("nowhere")
    assert numbered(tmp_path / "a.json") == tmp_path / "a-3.json"
