"""What fit and preview say of memory, and the choice of gradient checkpointing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_neft.cli import memory
from lightning_neft.cli.main import main
from lightning_neft.models.memory import Estimate


def row(printed: str) -> str:
    return next(line for line in printed.splitlines() if line.startswith("memory"))


@pytest.mark.parametrize(
    ("free", "choice", "says"),
    [
        (3.7e9, False, ""),
        (2.5e9, "selective", "; gradient checkpointing selective (auto)"),
        (1e9, True, "; gradient checkpointing on (auto)"),
    ],
)
def test_auto_is_the_default_and_decided_printed_and_saved(
    folder: Path,
    short: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    choice: bool | str,
    says: str,
) -> None:
    def estimate(model: Any, *_: object) -> Estimate:
        return Estimate(0, 0, 0, {False: 3e9, "selective": 2e9, True: 1e9}[model.gradient_checkpointing])

    monkeypatch.setattr(memory, "free_memory", lambda device, processes: free)
    monkeypatch.setattr(memory, "estimate", estimate)
    assert main(["fit", *short, "--name=run", "--samples=0", "--trainer.max_steps=1"]) == 0
    printed = row(capsys.readouterr().out)
    assert printed.endswith(says)
    assert ("(auto)" in printed) is bool(says)
    assert ("it does not fit: try" in printed) is (free == 1e9)  # less than 1.2 times the tensors
    saved = yaml.safe_load((folder / "runs/run/version_0/config.yaml").read_text())
    assert saved["model"]["gradient_checkpointing"] == choice


def test_preview_prints_the_estimate(folder: Path, short: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", *short]) == 0
    printed = capsys.readouterr().out
    assert "precision of a fit: 32-true" in printed
    assert "batch of 2 x" in row(printed)
    assert main(["preview", *short, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["precision"] == "32-true"
    # The bundled model has 984,192 weights.
    assert found["memory"]["gradients_bytes"] == 4 * 984_192
    assert found["memory"]["total_bytes"] > 16 * 984_192


@pytest.mark.parametrize(("alpha", "says"), [(5, "tokens, each twice)"), (0, "tokens)")])
def test_antithetic_batches_are_doubled(
    short: list[str], capsys: pytest.CaptureFixture[str], alpha: int, says: str
) -> None:
    options = [*short, "--neftune.antithetic=true", f"--neftune.alpha={alpha}"]
    for verb in ("preview", "fit"):
        assert main([verb, *options]) == 0
        printed = capsys.readouterr()
        assert says in row(printed.out + printed.err)


def test_a_model_that_cannot_be_traced_is_trained_all_the_same(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no such operation\nin detail")

    monkeypatch.setattr(memory, "estimate", fail)
    assert main(["fit", *short, "--samples=0", "--trainer.max_steps=1"]) == 0
    assert row(capsys.readouterr().out) == "memory: not estimated (no such operation)"
