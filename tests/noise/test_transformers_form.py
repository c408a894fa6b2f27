"""length='padded' is the form of transformers' hook: the same distribution, the same bounds, the same strength."""

from __future__ import annotations

import math

import torch
from scipy.stats import ks_2samp

from lightning_neft import EmbeddingNoise
from tiny import VOCABULARY, batch, transformers_hook


def both_noises(alpha=5.0, width=64, length=50):
    table = torch.nn.Embedding(VOCABULARY, width).train()
    torch.nn.init.zeros_(table.weight)
    table.neftune_noise_alpha = alpha
    given = batch([length, 7, 20], width=length)
    handle = table.register_forward_hook(transformers_hook())
    torch.manual_seed(0)
    theirs = table(given["input_ids"]).detach()
    handle.remove()
    noise = EmbeddingNoise(alpha, length="padded").attach(table)
    with noise.armed(given, 0):
        ours = table(given["input_ids"]).detach()
    return ours, theirs, alpha / math.sqrt(length * width)


def test_two_samples_come_from_one_distribution():
    ours, theirs, _ = both_noises()
    assert ks_2samp(ours.flatten().numpy(), theirs.flatten().numpy()).pvalue > 0.01
    # The test can tell: a strength that is 5 % off is seen with this many values.
    assert ks_2samp(1.05 * ours.flatten().numpy(), theirs.flatten().numpy()).pvalue < 0.01


def test_bounds_are_the_same_and_padding_has_noise_in_both():
    ours, theirs, bound = both_noises()
    for drawn in (ours, theirs):
        assert drawn.abs().max() <= bound
        assert drawn.abs().max() > 0.999 * bound
        assert (drawn[1, 7:].abs().sum(-1) > 0).all()
