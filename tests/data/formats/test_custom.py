"""A data format of the user: found by its import path, with faults reported in one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lightning_neft.cli.main import main
from lightning_neft.cli.tiny import tiny_records
from lightning_neft.data import TextData
from lightning_neft.data.formats.registry import choose_format, format_named
from lightning_neft.errors import ConfigError, DataError

QUIZ = '''
from lightning_neft.data import Column, Conversation, Format

class Quiz(Format):
    """A question and its reply."""

    columns = (Column("question"), Column("reply", ("answer",)))
    template = "vicuna"

    def sample(self, record, where, noticed):
        return Conversation.exchange(self.text(record, "question", where), self.text(record, "reply", where).upper())

class Unfinished(Format):
    columns = (Column("question"),)

class Bare(Unfinished):
    columns = ()
    def sample(self, record, where, noticed): ...

class Failing(Quiz):
    def sample(self, record, where, noticed):
        return record["nowhere"]

class Wrong(Quiz):
    def sample(self, record, where, noticed):
        return "text"
'''


@pytest.fixture
def quiz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with my_quiz.py, the current one and on the path."""
    (tmp_path / "my_quiz.py").write_text(QUIZ)
    (tmp_path / "my_broken.py").write_text("1 / 0")
    (tmp_path / "my_needy.py").write_text("import no_such_library")
    records = [{"question": f"What is {number}?", "answer": f"number {number}"} for number in range(8)]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_quiz", "my_broken", "my_needy"):
        sys.modules.pop(name, None)


def test_a_format_is_found_by_its_import_path(quiz: Path) -> None:
    found = choose_format([{"question": "q", "answer": "a"}], "my_quiz.Quiz")
    assert (found.name, found.template) == ("my_quiz.Quiz", "vicuna")
    sample = found.parse({"question": "q", "answer": "a"}, "here")
    assert sample.answer == "A"  # type: ignore[union-attr]
    assert format_named("my_quiz.Quiz", {"reply": "r"}).mapping == {"reply": "r"}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("no_quiz.Quiz", []),
        ("my_quiz.Quizz", ["did you mean Quiz"]),
        ("my_quiz.Conversation", ["data.Format"]),
        ("my_quiz.Unfinished", []),
        ("my_quiz.Bare", []),
        ("my_broken.Quiz", []),
        ("my_needy.Quiz", []),
    ],
)
def test_a_class_that_cannot_be_used_is_one_line(
    quiz: Path, path: str, named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(ConfigError) as caught:
        format_named(path)
    snapshot(text := str(caught.value))
    assert all(part in text for part in (path, *named))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("my_quiz.Failing", ["'nowhere'"]),
        (
            "my_quiz.Wrong",
            ["'text'"],
        ),
        (
            "my_quiz.Quiz",
            ["'reply'", "data.columns"],
        ),
    ],
)
def test_a_record_that_it_cannot_read_is_one_line(
    quiz: Path, path: str, named: list[str], snapshot: Callable[[str], None]
) -> None:
    record = {"question": "q"} if path == "my_quiz.Quiz" else {"question": "q", "reply": "a"}
    with pytest.raises(DataError) as caught:
        format_named(path).parse(record, "here")
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)


def test_stored_tokens_are_made_anew_when_the_file_changes(quiz: Path) -> None:
    def answer() -> str:
        data = TextData(str(quiz / "quiz.jsonl"), format="my_quiz.Quiz", val_size=0, cache_dir=str(quiz / "cache"))
        data.setup("fit")
        return str(data.prepared.train.samples[0].answer)  # type: ignore[union-attr]

    assert answer().startswith("NUMBER")
    (quiz / "my_quiz.py").write_text(QUIZ.replace(".upper()", ".title()"))
    sys.modules.pop("my_quiz")
    shutil.rmtree(quiz / "__pycache__", ignore_errors=True)
    assert answer().startswith("Number")


def test_the_program_finds_a_format_of_the_current_folder(
    quiz: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry) != quiz])
    options = ["--data.source=quiz.jsonl", "--data.format=my_quiz.Quiz", "--data.cache_dir=cache", "--samples=1"]
    assert main(["preview", *options]) in (0, None)
    out = capsys.readouterr().out
    assert "format my_quiz.Quiz, template vicuna" in " ".join(out.split())
    assert "NUMBER" in out


def test_tiny_samples_need_a_format_that_writes_them(quiz: Path) -> None:
    with pytest.raises(ConfigError, match=r"--tiny cannot write samples in the format my_quiz\.Quiz: .*record_of"):
        tiny_records("my_quiz.Quiz")
