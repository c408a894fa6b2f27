"""The noise as a function: strength, determinism, no global state, and parity with the arithmetic of its authors."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from lightning_neft.noise.functional import (
    Distribution,
    add_noise,
    expected_rms,
    mix_seed,
    noise,
    scale_from_lengths,
)
from lightning_neft.noise.strength import strength_sums

SEED = torch.tensor(3)


def draw(shape, scale, distribution="uniform", dtype=torch.float32, seed=SEED):
    return noise(torch.zeros(shape, dtype=dtype), scale, seed, distribution)


@pytest.mark.parametrize("distribution", get_args(Distribution))
def test_rms_is_the_scale_times_that_of_the_distribution(distribution):
    scale = torch.tensor([[0.5, 2.0]])
    rms = draw((1, 2, 100_000), scale, distribution).square().mean(-1).sqrt()
    torch.testing.assert_close(rms, scale * expected_rms(distribution), rtol=0.02, atol=0)


def test_gaussian_has_the_uniforms_variance_and_unit_has_one():
    assert expected_rms("gaussian") == expected_rms("uniform") == pytest.approx(1 / math.sqrt(3))
    assert expected_rms("gaussian_unit") == 1


def test_uniform_noise_is_two_sided_and_within_its_bounds():
    drawn = draw((1, 1, 200_000), torch.tensor([[0.3]]))
    assert drawn.abs().max() <= 0.3
    assert drawn.abs().max() > 0.2999
    assert abs(drawn.mean()) < 0.3 * 4 / math.sqrt(3 * 200_000)


def test_rademacher_noise_is_plus_or_minus_the_scale():
    drawn = draw((1, 1, 1000), torch.tensor([[0.25]]), "rademacher")
    assert drawn.unique().tolist() == [-0.25, 0.25]


def test_one_seed_gives_one_noise_and_another_seed_another():
    scale = torch.ones(2, 3)
    assert torch.equal(draw((2, 3, 8), scale), draw((2, 3, 8), scale))
    assert not torch.equal(draw((2, 3, 8), scale), draw((2, 3, 8), scale, seed=torch.tensor(4)))


def test_no_global_random_state_is_read_or_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw((2, 3, 8), torch.ones(2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draw((2, 3, 8), torch.ones(2, 3)), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_strength_is_right_where_l_times_d_overflows_fp16(dtype):
    """2048 x 2048 is 4.2 million; fp16 ends at 65,504 and would turn the scale into 0."""
    length = width = 2048
    activation = torch.zeros(1, length, width, dtype=dtype)
    scale = scale_from_lengths(torch.full((1, length), length), alpha=5.0, dim=width)
    noisy = add_noise(activation, scale, SEED, "uniform")
    assert noisy.dtype == dtype
    expected = 5.0 / math.sqrt(3 * length * width)
    assert noisy.float().square().mean().sqrt().item() == pytest.approx(expected, rel=0.02)


def test_sum_is_rounded_once():
    """Rounding the noise first and the sum afterwards would give another result for most elements."""
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(1, 64, 64, generator=generator).bfloat16()
    scale = torch.full((1, 64), 0.01)
    drawn = noise(activation, scale, SEED, "uniform")
    once = (activation.float() + drawn).bfloat16()
    assert drawn.dtype == torch.float32
    assert torch.equal(add_noise(activation, scale, SEED, "uniform"), once)
    assert not torch.equal(activation + drawn.bfloat16(), once)


def authors_noise(embeddings, attention_mask, alpha, draws):
    """The arithmetic of the paper's training script, stated anew: lengths from the mask, padding without noise.

    `draws` stands for its uniform_(-1, 1) of the embeddings' shape; alpha is divided by the root of (length x width) of
    each sequence, the product is masked, and gradients do not flow through it.
    """
    lengths = attention_mask.sum(1)
    dims = lengths * embeddings.shape[-1]
    magnitude = alpha / torch.sqrt(dims.float())
    delta = draws * attention_mask.unsqueeze(2)
    return embeddings + (delta * magnitude.view(-1, 1, 1)).detach()


@pytest.mark.parametrize("side", ["left", "right"])
def test_equals_the_authors_arithmetic_given_the_same_draw(side):
    from lightning_neft.noise.lengths import find_token_rows
    from tiny import batch

    given = batch([3, 9, 7, 1], width=10, side=side)
    embeddings = torch.randn(4, 10, 24, generator=torch.Generator().manual_seed(5))
    draws = noise(embeddings, torch.ones(4, 10), SEED, "uniform")
    expected = authors_noise(embeddings, given["attention_mask"], 5.0, draws)

    (rows,) = find_token_rows(given)
    ours = add_noise(embeddings, rows.weight * (5.0 * 24**-0.5), SEED, "uniform")
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)
    padding = given["attention_mask"] == 0
    assert torch.equal(ours[padding], embeddings[padding])


def test_scale_of_half_precision_lengths_is_computed_in_float32():
    lengths = torch.tensor([2048.0], dtype=torch.float16)
    assert scale_from_lengths(lengths, 5.0, 2048).item() == pytest.approx(5 / 2048)
    assert scale_from_lengths(torch.tensor([100_000]), 5.0, 10).item() == pytest.approx(5 / 1000)


def test_strength_sums_count_only_tokens_with_noise():
    clean, scale = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]]), torch.tensor([[1.0, 0.0]])
    drawn = noise(clean, scale, SEED, "uniform")
    sums = strength_sums(clean, clean + drawn, scale, SEED, "uniform", torch.tensor(True))
    assert sums.tolist() == [pytest.approx(drawn.square().sum().item()), 25.0, 0.0, 2.0]
    half_kept = clean + drawn * torch.tensor([1.0, 0.0])
    assert strength_sums(clean, half_kept, scale, SEED, "uniform", torch.tensor(True))[2] == 1
    assert strength_sums(clean, clean, scale, SEED, "uniform", torch.tensor(False)).tolist() == [0.0] * 4


@pytest.mark.parametrize("distribution", get_args(Distribution))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 4, 8), (1, 1, 1), (2, 3, 7), (3, 501, 97)])
def test_what_is_added_is_the_noise_in_blocks_of_any_number(shape, dtype, distribution):
    """(3, 501, 97) is more than two blocks of odd rows, in which a number of the generator must not be drawn twice."""
    activation = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    scale = torch.rand(shape[:-1], generator=torch.Generator().manual_seed(1))
    drawn = noise(activation, scale, SEED, distribution)
    assert drawn.dtype == torch.promote_types(dtype, torch.float32)
    noisy = add_noise(activation, scale, SEED, distribution)
    assert torch.equal(noisy, (activation.to(drawn.dtype) + drawn).to(dtype))


def test_a_draw_on_a_cpu_is_half_of_a_64_bit_number():
    """Stated anew, whole and without blocks: a checkpoint of another version continues the same noise."""
    shape = (3, 501, 97)
    count = math.prod(shape)
    numbers = np.random.SFC64(mix_seed(3)).random_raw(count + 1 >> 1)
    expected = torch.from_numpy(numbers.view(np.int32)[:count]).view(shape).to(torch.float64) / 2**31
    drawn = draw(shape, torch.full(shape[:2], 0.5), dtype=torch.float64)
    torch.testing.assert_close(drawn, 0.5 * expected, rtol=1e-12, atol=0)


def test_the_uniform_draw_is_uniform_and_independent():
    drawn = draw((1, 1, 400_000), torch.ones(1, 1)).flatten()
    assert kstest(drawn.numpy(), "uniform", args=(-1, 2)).pvalue > 0.01
    for lag in (1, 2, 97):
        assert abs((drawn[lag:] * drawn[:-lag]).mean()) < 4 / 3 / math.sqrt(drawn.numel())


def test_other_layouts_get_the_noise_of_their_order():
    activation = torch.randn(5, 2, 8).transpose(0, 1).requires_grad_()
    scale = torch.rand(2, 1)
    noisy = add_noise(activation, scale, SEED, "uniform")
    assert torch.equal(noisy, activation + noise(activation, scale, SEED, "uniform"))
    weight = torch.rand_like(noisy)
    (noisy * weight).sum().backward()
    assert torch.equal(activation.grad, weight)


def test_operators_obey_the_rules_of_torch_library():
    like, scale = torch.randn(2, 3, 4), torch.rand(2, 3)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    arguments = (like.requires_grad_(), scale, SEED, "uniform")
    assert set(torch.library.opcheck(add_noise, arguments, test_utils=checks).values()) == {"SUCCESS"}
    arguments = (like.detach(), like.detach(), scale, SEED, "uniform", torch.tensor(True))
    assert set(torch.library.opcheck(strength_sums, arguments, test_utils=checks).values()) == {"SUCCESS"}


def test_meta_tensors_get_noise_without_memory():
    activation = torch.empty(2, 3, 4, device="meta", dtype=torch.bfloat16)
    noisy = add_noise(activation, torch.ones(2, 3), SEED, "uniform")
    assert noisy.is_meta
    assert noisy.shape == (2, 3, 4)
    assert noisy.dtype == torch.bfloat16


def test_seeds_of_neighbours_differ_in_the_low_32_bits():
    """torch's CPU generator drops the others."""
    low = {mix_seed(seed, rank, step, 0) & 0xFFFFFFFF for seed in range(4) for rank in range(8) for step in range(500)}
    assert len(low) > 0.999 * 4 * 8 * 500
    assert mix_seed(1, 2) != mix_seed(2, 1)
    assert mix_seed(-1) != mix_seed(1)


def test_the_operators_are_not_captured_into_cuda_graphs():
    """A captured graph would replay the noise of its capture."""
    for operator in (torch.ops.lightning_neft.add_noise, torch.ops.lightning_neft.strength_sums):
        assert torch.Tag.cudagraph_unsafe in operator.default.tags
