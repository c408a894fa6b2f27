"""The loss against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_neft.models.loss import Predictions, mean_loss, summed_loss


def by_hand(logits: Tensor, targets: list[int], weights: list[float]) -> tuple[float, float]:
    """The weighted sum of -log softmax, and of the weights, in Python's own numbers."""
    total = 0.0
    for row, target, weight in zip(logits.tolist(), targets, weights, strict=True):
        if target != -100:
            total += weight * (math.log(sum(map(math.exp, row))) - row[target])
    return total, sum(weight for target, weight in zip(targets, weights, strict=True) if target != -100)


@pytest.mark.parametrize("weights", [None, [1.0, 0.25, 0.5, 1.0]])
@pytest.mark.parametrize("targets", [[1, 4, 0, 2], [1, -100, 0, -100]])
def test_it_is_the_weighted_cross_entropy_of_the_targets(targets: list[int], weights: list[float] | None) -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    total, weight = by_hand(logits, targets, weights or [1.0] * 4)
    predictions = Predictions(logits, torch.tensor(targets), None if weights is None else torch.tensor(weights))
    found = summed_loss(predictions)
    assert (found[0].item(), found[1].item()) == pytest.approx((total, weight), rel=1e-6)
    assert mean_loss(predictions).item() == pytest.approx(total / weight, rel=1e-6)


@pytest.mark.parametrize("targets", [[-100, -100], []])
@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_target_it_is_0_and_so_are_its_gradients(targets: list[int], weighted: bool) -> None:
    logits = torch.randn(len(targets), 3, requires_grad=True)
    weights = torch.ones(len(targets)) if weighted else None
    loss = mean_loss(Predictions(logits, torch.tensor(targets, dtype=torch.int64), weights))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_half_precision_logits_have_a_float32_loss() -> None:
    logits = torch.randn(64, 100, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    targets = torch.arange(64)
    total, _ = by_hand(logits, targets.tolist(), [1.0] * 64)
    loss, _ = summed_loss(Predictions(logits, targets))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(total, rel=1e-5)
    assert summed_loss(Predictions(logits.double(), targets))[0].dtype == torch.float64
