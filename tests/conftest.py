"""Fixtures for all tests: small models and batches, quiet trainers, and a process left as it was found."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Models this small run faster on one thread, and a second test process does not fight for the same cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def restored_environment() -> Iterator[None]:
    """seed_everything and distributed strategies set environment variables that would leak into the next test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, for runs of the program."""
    # Lightning's log handlers keep the captured stream of the test that imported it, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
