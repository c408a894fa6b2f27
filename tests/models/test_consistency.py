"""The divergence between the two noises of an antithetic pair: its value, its gradients, its place in a fit."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neft import NEFTune
from lightning_neft.data.module import TextData
from lightning_neft.errors import ConfigError
from lightning_neft.models import blocked_loss as blocks
from lightning_neft.models.blocked_loss import Adjustment, HeadInput
from lightning_neft.models.consistency import pair_divergence
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import Predictions

VOCABULARY, WIDTH, PAIRS = 50, 16, 7


def plain(logits: Tensor, weights: Tensor) -> Tensor:
    """Both directions, by PyTorch's own function."""
    one, other = (half.log_softmax(-1) for half in logits.split(PAIRS))
    both = [F.kl_div(a, b, reduction="none", log_target=True).sum(-1) for a, b in ((one, other), (other, one))]
    return (sum(both) / 2 * weights).sum() / weights.sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["logits", "linear", "module"])
def test_value_and_gradients_are_those_of_all_logits(
    kind: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 3 * 4 * VOCABULARY)  # three tokens a block
    torch.manual_seed(0)
    states = torch.randn(2 * PAIRS, WIDTH, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(WIDTH, VOCABULARY, dtype=torch.float64)
    adjustment = Adjustment(0.5, 2.0)
    half = torch.randint(VOCABULARY, (PAIRS,))
    half[2] = -100
    weights = torch.rand(PAIRS) if weighted else None
    logits = adjustment.apply(head(states))
    given = logits if kind == "logits" else HeadInput(states, head, adjustment, is_linear=kind == "linear")
    doubled = None if weights is None else torch.cat([weights, weights])
    found = pair_divergence(Predictions(given, torch.cat([half, half]), doubled))
    counted = (half != -100).double() * (1 if weights is None else weights)
    expected = plain(logits, counted)
    assert found.item() == pytest.approx(expected.item(), rel=1e-7)
    of = [states, head.weight, head.bias]
    for one, other in zip(
        torch.autograd.grad(found, of, retain_graph=True), torch.autograd.grad(expected, of), strict=True
    ):
        assert (one - other).norm() <= 1e-7 * other.norm()


def test_without_a_target_it_is_0() -> None:
    assert pair_divergence(Predictions(torch.randn(4, 3), torch.full((4,), -100))).item() == 0


class Recorded(CausalLM):
    """Keeps the loss that each step trains on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, keep_eval=True, **options)
        self.trained_on: list[float] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.trained_on.append(loss.item())
        return loss


def fit(base: str, source: str, consistency: float, **noise: Any) -> tuple[Recorded, dict[str, Tensor]]:
    off = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    L.seed_everything(1, verbose=False)
    trainer = L.Trainer(accelerator="cpu", max_steps=1, log_every_n_steps=1, callbacks=[NEFTune(**noise)], **off)
    model = Recorded(base, consistency=consistency)
    trainer.fit(model, TextData(source, base, batch_size=2))
    return model, trainer.callback_metrics


def test_a_step_trains_on_the_loss_and_the_weighted_term(base: str, source: str) -> None:
    (without, _), (with_term, logged) = (fit(base, source, weight, alpha=50, antithetic=True) for weight in (0, 3))
    divergence = logged["train/divergence"].item()
    assert divergence > 0
    assert logged["train/loss"].item() == pytest.approx(without.trained_on[0], rel=1e-5)
    assert with_term.trained_on[0] == pytest.approx(without.trained_on[0] + 3 * divergence, rel=1e-5)


def test_without_noise_there_is_no_term(base: str, source: str) -> None:
    model, logged = fit(base, source, 3, alpha=0, antithetic=True)
    assert "train/divergence" not in logged
    assert model.trained_on[0] == pytest.approx(logged["train/loss"].item(), rel=1e-6)


def test_without_pairs_it_is_an_error(base: str, source: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.consistency=3 .* set neftune\.antithetic=true"):
        fit(base, source, 3, alpha=5)
