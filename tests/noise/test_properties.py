"""What holds of the noise for any lengths, width, strength, dtype and seed."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_neft import EmbeddingNoise
from lightning_neft.noise.functional import add_noise, expected_rms, mix_seed, noise, scale_from_lengths
from tiny import VOCABULARY, batch

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=5)
WIDTHS = st.sampled_from([1, 3, 16, 40])
ALPHAS = st.floats(0, 100)
SEEDS = st.integers(0, 2**63 - 1)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
# A width, a strength and a batch, whose lengths may end in padding on either side.
CASES = st.tuples(LENGTHS, st.integers(0, 4), st.sampled_from(["left", "right"]), WIDTHS, ALPHAS)


def table(width: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Embedding(VOCABULARY, width).to(dtype)


def added(lengths, more, side, width, alpha, *, seed=0, step=0, rank=0, dtype=torch.float64, **options):
    """The noise on a batch that is `more` tokens wider than its longest row, its mask, and its clean embedding."""
    model, given = table(width, dtype), batch(lengths, width=max(lengths) + more, side=side)
    hook = EmbeddingNoise(alpha, seed=seed, **options).attach(model)
    clean = model(given["input_ids"]).detach()
    with hook.armed(given, step, rank=rank):
        noisy = model(given["input_ids"]).detach()
    hook.detach()
    return noisy - clean, given["attention_mask"] == 1, clean


@given(CASES, SEEDS)
def test_no_element_exceeds_the_bound_and_padding_has_none(case, seed):
    lengths, _, _, width, alpha = case
    delta, mask, _ = added(*case, seed=seed)
    for row, length in enumerate(lengths):
        bound = alpha / math.sqrt(length * width)
        # The scale is a float32, and the sum was rounded.
        assert delta[row][mask[row]].abs().max() <= bound * (1 + 1e-6) + 1e-12
    assert not delta[~mask].any()


@given(CASES, SEEDS)
def test_signs_have_the_size_of_the_bound_to_the_last_digits(case, seed):
    lengths, _, _, width, alpha = case
    delta, mask, _ = added(*case, seed=seed, distribution="rademacher")
    for row, length in enumerate(lengths):
        expected = torch.full((length, width), alpha / math.sqrt(length * width), dtype=torch.float64)
        torch.testing.assert_close(delta[row][mask[row]].abs(), expected, rtol=1e-6, atol=1e-9)


@given(CASES, DTYPES)
def test_the_dtype_stays_and_all_is_finite(case, dtype):
    delta, mask, clean = added(*case, dtype=dtype)
    assert delta.dtype == clean.dtype == dtype
    assert delta.isfinite().all()
    assert not delta[~mask].any()


@given(CASES, st.integers(0, 99), st.integers(0, 9), st.integers(0, 3))
def test_seed_step_and_rank_each_change_the_noise(case, seed, step, rank):
    place = {"seed": seed, "step": step, "rank": rank}
    delta, _, _ = added(*case, **place)
    assert torch.equal(delta, added(*case, **place)[0])
    if delta.count_nonzero() > 3:
        for name in place:
            assert not torch.equal(delta, added(*case, **{**place, name: place[name] + 1})[0])


@given(LENGTHS, st.integers(1, 12), WIDTHS, SEEDS)
def test_the_noise_of_a_row_does_not_depend_on_other_lengths(lengths, other, width, seed):
    others = [lengths[0], *(1 + (length + other) % 12 for length in lengths[1:])]
    common = max(*lengths, *others)
    first, _, _ = added(lengths, common - max(lengths), "right", width, 5.0, seed=seed)
    second, _, _ = added(others, common - max(others), "right", width, 5.0, seed=seed)
    assert torch.equal(first[0], second[0])


@given(LENGTHS, WIDTHS, st.floats(0.125, 64), SEEDS, st.sampled_from(["uniform", "gaussian", "rademacher"]))
def test_the_draw_does_not_depend_on_alpha(lengths, width, alpha, seed, distribution):
    like, key = torch.empty(len(lengths), width), torch.tensor(seed)
    scale = scale_from_lengths(torch.tensor(lengths), alpha, width)
    unit = noise(like, torch.ones(len(lengths)), key, distribution)
    torch.testing.assert_close(noise(like, scale, key, distribution), unit * scale[:, None], rtol=0, atol=0)


@given(SEEDS, st.sampled_from(["uniform", "gaussian", "gaussian_unit", "rademacher"]))
def test_mean_and_size_follow_the_distribution_for_each_seed(seed, distribution):
    drawn = noise(torch.empty(64, 64), torch.ones(64), torch.tensor(seed), distribution)
    rms = expected_rms(distribution)
    # Six standard errors of 4096 draws.
    assert drawn.mean().abs() < 6 * rms / 64
    assert abs(drawn.square().mean().sqrt() / rms - 1) < 6 / 64


@given(st.lists(st.integers(-(2**63), 2**64), max_size=4), st.lists(st.integers(-(2**63), 2**64), max_size=4))
def test_other_parts_are_another_seed(one, other):
    seed = mix_seed(*one)
    assert 0 <= seed < 2**63
    if [part % 2**64 for part in one] != [part % 2**64 for part in other]:
        assert seed != mix_seed(*other)


@given(SEEDS, DTYPES, st.floats(0, 8, width=32))
def test_a_sum_is_that_of_exact_numbers_rounded_once(seed, dtype, scale):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(4, 8, generator=generator).to(dtype)
    arguments = (torch.full((4,), scale), torch.tensor(seed), "uniform")
    drawn = noise(clean, *arguments)
    exact = clean.double() + drawn.double()
    tolerance = torch.finfo(dtype).eps + torch.finfo(torch.float32).eps
    torch.testing.assert_close(add_noise(clean, *arguments).double(), exact, rtol=tolerance, atol=1e-7)
