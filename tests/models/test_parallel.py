"""Two processes on the CPU, replicated and sharded: the same training, resumable, with checkpoints and folders."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

from models import parallel_runs
from ranks import run_ranks

pytestmark = pytest.mark.slow


def run(strategy: str, method: str, base: str, folder: Path, ckpt_path: Path | None = None) -> list[dict[str, Any]]:
    """Run once with two processes; what each rank ended with."""
    folder.mkdir()
    run_ranks(lambda: parallel_runs.run(strategy, method, base, folder, ckpt_path), folder)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "log" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def check_folder(folder: Path, weights: dict[str, torch.Tensor], method: str) -> None:
    """The model folder has the weights of the best checkpoint, here the last one."""
    if method.startswith("lora"):
        model = AutoPeftModelForCausalLM.from_pretrained(folder)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder)
    found = dict(model.named_parameters())
    assert found
    assert {f"model.{name}" for name in found} == set(weights)
    for name, value in found.items():
        assert torch.equal(value.to(weights[f"model.{name}"].dtype), weights[f"model.{name}"]), name


@pytest.mark.parametrize(("strategy", "method"), [("ddp", "lora"), ("fsdp2", "full"), ("fsdp2", "lora_half")])
def test_a_run_can_be_resumed_and_leaves_a_folder(base: str, tmp_path: Path, strategy: str, method: str) -> None:
    first, second = run(strategy, method, base, tmp_path / "a")
    assert (first["sharded"] > 0) == (strategy == "fsdp2")
    assert first["drawn"] != second["drawn"]
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    assert first["val_loss"] == second["val_loss"]
    assert len(logged(tmp_path / "a", "train/clean_loss")) == 2
    assert (tmp_path / "a" / "log" / "samples.jsonl").exists() == (strategy == "ddp")
    check_folder(tmp_path / "a" / "model", first["weights"], method)
    resumed = run(strategy, method, base, tmp_path / "b", tmp_path / "a" / "step=2.ckpt")
    for one, other in zip((first, second), resumed, strict=True):
        assert one["drawn"][2:] == other["drawn"]
        assert all(torch.equal(value, other["weights"][name]) for name, value in one["weights"].items())


@pytest.mark.parametrize("method", ["checkpointing", "lora"])
def test_sharded_ranks_train_as_replicated_ones(base: str, tmp_path: Path, method: str) -> None:
    (sharded, _), (replicated, _) = (run(s, method, base, tmp_path / s) for s in ("fsdp2_whole", "ddp"))
    assert sharded["sharded"] > replicated["sharded"] == 0
    assert sharded["trained"] == replicated["trained"]
    for name, value in replicated["weights"].items():
        torch.testing.assert_close(sharded["weights"][name], value, rtol=1e-4, atol=1e-5)
    assert sharded["val_loss"] == pytest.approx(replicated["val_loss"], rel=1e-4)
    checkpoints = [torch.load(tmp_path / s / "step=4.ckpt", weights_only=True) for s in ("fsdp2_whole", "ddp")]
    names = [set(checkpoint["state_dict"]) for checkpoint in checkpoints]
    assert names[0] == names[1]
    if method == "lora":
        assert names[0] == set(sharded["trained"])
    check_folder(tmp_path / "fsdp2_whole" / "model", sharded["weights"], method)
