"""The relative scale: one alpha, one noise-to-signal on any model; the paper's if the model is its own reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_neft import EmbeddingNoise
from lightning_neft.noise.probe import probe
from tiny import VOCABULARY, batch, llama


class Scaled(nn.Module):
    """A table whose output is multiplied inside the module, as Gemma's and BART's are."""

    def __init__(self, size: float, width: int = 512) -> None:
        super().__init__()
        self.size = size
        self.num_embeddings, self.embedding_dim = VOCABULARY, width
        self.weight = nn.Parameter(torch.randn(VOCABULARY, width, generator=torch.Generator().manual_seed(0)))

    def forward(self, ids):
        return self.weight[ids] * self.size


def pair(model, given, **options):
    """Clean and noisy output of one pass, and the measured strength."""
    noise = EmbeddingNoise(5, **options).attach(model)
    clean = model(given["input_ids"]).detach()
    noise.arm(given, 0, measure=True)
    noisy = model(given["input_ids"]).detach()
    strength = noise.disarm()
    noise.detach()
    return clean, noisy, strength


def rms(tensor):
    return tensor.square().mean().sqrt().item()


@pytest.mark.parametrize("size", [0.02, 1.0, 45.0])
def test_noise_to_signal_does_not_depend_on_the_embeddings_size(size):
    given = batch([20, 20])
    clean, noisy, strength = pair(Scaled(size), given, scale="relative")
    expected = 5 / math.sqrt(3 * 20)
    assert rms(noisy - clean) / rms(clean) == pytest.approx(expected, rel=0.01)
    assert strength.noise_to_signal.item() == pytest.approx(expected, rel=0.01)
    _, _, paper = pair(Scaled(size), given)
    assert paper.noise_to_signal.item() == pytest.approx(5 / math.sqrt(3 * 20 * 512) / rms(clean), rel=0.01)


@pytest.mark.parametrize("width", [64, 1024])
def test_noise_to_signal_does_not_depend_on_the_width_either(width):
    _, _, strength = pair(Scaled(0.3, width), batch([16]), scale="relative", reference_norm=2.0)
    assert strength.noise_to_signal.item() == pytest.approx(5 / math.sqrt(3 * 16) / 2, rel=0.03)


def test_a_model_as_its_own_reference_gets_the_papers_noise():
    model, given = Scaled(0.3), batch([7, 12, 3])
    tokens = model(given["input_ids"])[given["attention_mask"] == 1]
    norm = tokens.detach().norm(dim=-1).square().mean().sqrt().item()
    _, paper, _ = pair(model, given)
    _, relative, _ = pair(model, given, scale="relative", reference_norm=norm)
    torch.testing.assert_close(relative, paper, rtol=1e-6, atol=1e-7)


def test_padding_has_no_part_in_the_size():
    model = Scaled(1.0)
    with torch.no_grad():
        model.weight[0] = 1e4  # what padding is embedded to
    short, wide = batch([9, 9], width=9), batch([9, 9], width=40)
    wide["input_ids"][:, :9] = short["input_ids"]
    _, _, one = pair(model, short, scale="relative")
    _, _, other = pair(model, wide, scale="relative")
    torch.testing.assert_close(one.embedding_rms, other.embedding_rms)
    # Other draws, same strength.
    torch.testing.assert_close(one.noise_rms, other.noise_rms, rtol=0.03, atol=0)


@pytest.mark.slow
def test_it_compiles_without_a_break_and_without_compiling_anew():
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = llama()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    noise = EmbeddingNoise(5, scale="relative", distribution="rademacher", antithetic=True).attach(compiled)
    for step in range(8):
        given = {key: torch.cat([value, value]) for key, value in batch([5 + step, 3], seed=step).items()}
        with noise.armed(given, step, alpha=1.0 + step):
            compiled(**given).loss.backward()
    noise.detach()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    assert not torch._dynamo.utils.counters["graph_break"]
    torch._dynamo.reset()


def test_the_probe_measures_it_too():
    [found] = probe(llama(64), batch([30, 30, 30]), noise=EmbeddingNoise(5, scale="relative", antithetic=True))
    assert found.noise_to_signal == pytest.approx(5 / math.sqrt(3 * 30), rel=0.05)
