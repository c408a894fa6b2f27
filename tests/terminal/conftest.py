"""One short run of the tiny model, with which all verbs are shown, and the files that they read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from terminal.shown import Shown, show

WORDS = ("cat", "dog", "hen", "fox", "owl", "bee")
# Two steps of the tiny model; nothing of it depends on the machine but the last digits of its losses.
SHORT = (
    "--data.source=data.json --data.batch_size=2 --data.val_size=2 --data.cache_dir=cache --model.learning_rate=1e-4 "
    "--trainer.max_steps=2 --trainer.log_every_n_steps=1 --trainer.accelerator=cpu --samples=0 --clean_loss=0"
)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, prompts, answers and the run `runs/first`."""
    folder = tmp_path_factory.mktemp("terminal")
    records = [{"instruction": f"Say {word}.", "output": f"{word} it is"} for word in WORDS]
    wide = [{"instruction": "猫と犬の違いを説明してください。" * 3, "output": "猫は静かです。" * 9}] * 6
    answers = [{**one, "generator": "some-model"} for one in records]
    others = [{**one, "output": "No.", "generator": "other-model"} for one in answers]
    files = {"data": records, "wide": wide, "prompts": records[:2], "answers": answers, "others": others}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def in_terminal(place: Path) -> Callable[..., Shown]:
    """Runs a command line there."""

    def run(line: str, columns: int = 80, **options: object) -> Shown:
        return show(line.split(), place, columns, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="session")
def fits(in_terminal: Callable[..., Shown]) -> dict[int, Shown]:
    """The screens of two fits, `runs/first` and `runs/second`, by their width."""
    names = {80: "first", 120: "second"}
    return {
        columns: in_terminal(f"fit {SHORT} --name={name} --clean_loss=1", columns) for columns, name in names.items()
    }
