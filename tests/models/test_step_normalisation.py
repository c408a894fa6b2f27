"""The gradient of an optimiser step is that of the mean over its trained tokens, however they are split up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_neft.models.language_models import CausalLM
from models.step_runs import COUNT, Recorded, run, samples
from ranks import run_ranks


def by_hand(base: str, lora: bool) -> dict[str, Tensor]:
    """Gradients of the mean over all trained tokens, from each sample alone and with the model's own loss."""
    module = Recorded(base, lora)
    torch.set_default_dtype(torch.float64)
    try:
        module.configure_model()
    finally:
        torch.set_default_dtype(torch.float32)
    data = samples()
    total = sum(label != -100 for sample in data for label in sample.labels)
    for sample in data:
        trained = sum(label != -100 for label in sample.labels)
        ids, labels = torch.tensor([sample.input_ids]), torch.tensor([sample.labels])
        (module.model(input_ids=ids, labels=labels).loss * trained / total).backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def check_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert len(found) >= 19
    assert distance(found, expected) < 1e-6


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Relative distance of the gradients as a whole: Llama's norms are in float32 whatever the weights are."""
    one, other = (torch.cat([gradients[name].flatten() for name in expected]) for gradients in (found, expected))
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(16, 1), (4, 4), (3, 6), (1, 16)])
def test_micro_batches_give_the_gradient_of_one_batch(base: str, lora: bool, batch_size: int, accumulate: int) -> None:
    assert COUNT % 3 != 0  # the last micro-batch is a short one with batches of 3
    module = run(base, "length_grouped", lora, batch_size, accumulate)
    check_same(module.gradients, by_hand(base, lora))


@pytest.mark.parametrize("batching", ["packed", "flat"])
def test_so_do_rows_of_several_documents(base: str, batching: str) -> None:
    module = run(base, batching, False, batch_size=2, accumulate=3)
    check_same(module.gradients, by_hand(base, False))


def test_without_shares_uneven_micro_batches_differ(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = CausalLM.training_step

    def plain(self: CausalLM, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        del batch["step_share"]
        return step(self, batch, batch_idx)

    monkeypatch.setattr(CausalLM, "training_step", plain)
    assert distance(run(base, "random", False, 4, 4).gradients, by_hand(base, False)) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("lora", ["full", "lora"])
def test_so_do_two_ranks(base: str, lora: str, tmp_path: Path) -> None:
    def of_rank() -> None:
        module = run(base, "length_grouped", lora == "lora", batch_size=4, accumulate=2, devices=2)
        torch.save(module.gradients, tmp_path / f"{module.global_rank}.pt")

    run_ranks(of_rank, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    expected = by_hand(base, lora == "lora")
    for gradients in (first, second):
        check_same(gradients, expected)
