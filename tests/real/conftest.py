"""The models of scripts/real_bases.py, in `.real` or in the folder that LIGHTNING_NEFT_REAL names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pages import ROOT

REAL = Path(os.environ.get("LIGHTNING_NEFT_REAL", ROOT / ".real"))
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.slow)


def real(name: str) -> Path:
    """The folder of a model; without it the test is skipped."""
    if not (REAL / f"{name}.json").is_file():
        pytest.skip(f"needs {name} in {REAL}: make real")
    return REAL / name


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, expanded."""
    return real("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def gemma3() -> Path:
    """Gemma 3 270M, expanded."""
    return real("gemma3-270m")


@pytest.fixture(scope="session")
def dolly_3k() -> Path:
    """The file of the dataset dolly-3k, which no package registry has."""
    file = REAL / "dolly_3k.json"
    if not file.is_file():
        pytest.skip(f"needs the file of the dataset dolly-3k (data/catalogue.yaml) as {file}")
    return file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def options() -> list[str]:
    """Options of a run of 20 steps with 8 held-out samples; whole rows of at most 80 tokens keep it under 4 GB."""
    return [
        f"--data.source={HERE / 'instructions.jsonl'}",
        "--data.batch_size=2",
        "--data.val_size=8",
        "--data.max_length=96",
        "--trainer.max_steps=20",
        "--trainer.max_epochs=-1",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=5",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--name=r",
    ]
