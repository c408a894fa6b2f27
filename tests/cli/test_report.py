"""The verb report: what it prints, and its errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_neft.cli.main import main
from report.example import answer_file, leave_out_drawing, study, write


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plots have tests of their own."""
    leave_out_drawing(monkeypatch)


def test_it_writes_the_page_and_says_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "study.json", study())
    assert main(["report", "study.json", "--title", "Does noise help?"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("report.html (")
    assert "11 plots" in printed
    assert "<title>Does noise help?</title>" in (folder / "report.html").read_text(encoding="utf-8")
    assert len(list(folder.glob("report-*.png"))) == 11


def test_a_page_of_answers_alone_has_no_plots(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer_file(folder / "a.json", "a", [("q", "x")])
    assert main(["report", "a.json", "--out", "pages"]) == 0
    assert (folder / "pages" / "report.html").is_file()
    assert "0 plots" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "named"), [("", "RESULT"), ("none.json", "none.json"), ("a.json --titel x", "--title?")]
)
def test_an_error_is_one_line_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], args: str, named: str, snapshot: Callable[[str], None]
) -> None:
    assert main(["report", *args.split()]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    snapshot(error.rstrip("\n"))
    assert list(folder.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_neft.report.page.find_spec", lambda name: None if name == "jinja2" else object())
    answer_file(folder / "a.json", "a", [("q", "x")])
    assert main(["report", "a.json"]) == 2
    assert "jinja2, not installed here: pip install 'lightning-neft[study]'" in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_every_option_of_the_help_exists(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    text = capsys.readouterr().out
    answer_file(folder / "a.json", "a", [("q", "x")])
    for option in ("--out", "--title"):
        assert option in text
        assert main(["report", "a.json", option, "pages"]) == 0
