"""Pairs to judge, and a judge at a server in this process, whose waits take no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from lightning_neft.evaluation.judge.contest import Pair
from lightning_neft.evaluation.judge.endpoint import EndpointJudge
from lightning_neft.evaluation.judge.ledger import Ledger
from lightning_neft.evaluation.judge.pace import Backoff, Pace

KEY = "sk-planted-1234567890"


@pytest.fixture
def pairs() -> list[Pair]:
    """Twelve pairs: the model's answer is clearly longer in four, clearly shorter in four, about as long in four."""
    lengths = [80, 10, 41] * 4
    return [Pair(f"Question {index}?", "m" * length, "b" * 40) for index, length in enumerate(lengths)]


@pytest.fixture
def waits() -> list[float]:
    """Seconds that judges waited for, or would have."""
    return []


@pytest.fixture
def judge_at(waits: list[float]) -> Callable[..., EndpointJudge]:
    def make(server: JudgeServer, **options: Any) -> EndpointJudge:
        options = {"timeout": 0.3, "workers": 3, "backoff": Backoff(attempts=9), **options}
        return EndpointJudge("fake", url=server.url, key=KEY, pace=Pace(sleep=waits.append), **options)

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "verdicts.sqlite")
