"""A folder to run the program in, a small file of data, and options that make a run short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def short(folder: Path) -> list[str]:
    """Options of a run of two steps with two held-out samples."""
    records = [
        {"instruction": f"Say {word}.", "output": f"{word} it is"}
        for word in ("cat", "dog", "hen", "fox", "owl", "bee")
    ]
    (folder / "data.json").write_text(json.dumps(records))
    return [
        "--data.source=data.json",
        "--data.batch_size=2",
        "--data.val_size=2",
        "--model.learning_rate=1e-3",
        "--trainer.max_epochs=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
    ]
