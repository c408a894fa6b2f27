"""A place to save models in, and a transformers without progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel
from transformers.utils import logging


@pytest.fixture(autouse=True)
def no_progress_bars() -> Iterator[None]:
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    yield
    if had_bars:
        logging.enable_progress_bar()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves a model in a folder and returns it."""

    def save(model: PreTrainedModel, name: str = "model", **options: Any) -> Path:
        model.save_pretrained(tmp_path / name, **options)
        return tmp_path / name

    return save
