"""The noise as pure functions: distributions, scale, seeds, and the operators that a compiled graph can hold.

Formula (Jain et al., "NEFTune", arXiv 2310.05914, Algorithm 1): X' = X + alpha / sqrt(L d) * eps, eps ~ Uniform(-1, 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Distribution",
    "add_noise",
    "expected_rms",
    "mix_seed",
    "noise",
    "scale_from_lengths",
    "strength_sums",
    "token_norm",
]

Distribution = Literal["uniform", "gaussian", "gaussian_unit", "rademacher"]

# RMS of one draw before scaling. "gaussian" has the variance of Uniform(-1, 1), so that one alpha means one strength;
# "gaussian_unit" is the paper's Gaussian (section 5), "rademacher" the signs of SymNoise (arXiv 2312.01523).
_RMS: dict[str, float] = {
    "uniform": 1 / math.sqrt(3),
    "gaussian": 1 / math.sqrt(3),
    "gaussian_unit": 1.0,
    "rademacher": 1.0,
}

_MASK64 = (1 << 64) - 1

# Elements of a block: in float32 and with the generator's numbers half a megabyte.
_BLOCK = 1 << 16


def expected_rms(distribution: Distribution) -> float:
    """Root mean square of the distribution before scaling.

    >>> round(expected_rms("uniform"), 4), expected_rms("rademacher")
    (0.5774, 1.0)
    """
    return _RMS[distribution]


def scale_from_lengths(lengths: Tensor, alpha: float, dim: int) -> Tensor:
    """Bound of the uniform noise, alpha / sqrt(L d), for each length.

    Args:
        lengths: True lengths in tokens, any shape and integer or float dtype; 0 stands for padding.
        alpha: Strength, the paper's alpha.
        dim: Width d of the embedding.

    Returns:
        float32 tensor of the shape of `lengths`; 0 where the length is 0.

    >>> scale_from_lengths(torch.tensor([4, 1, 0]), alpha=5.0, dim=100)
    tensor([0.2500, 0.5000, 0.0000])
    """
    # float32 throughout: L * d reaches 4.2 million at 2048 x 2048, far above fp16's largest number of 65,504.
    inverse_root = lengths.to(torch.float32).clamp(min=1).rsqrt()
    return torch.where(lengths > 0, inverse_root * (alpha / math.sqrt(dim)), 0.0)


def token_norm(activation: Tensor, scale: Tensor) -> Tensor:
    """Root mean square, over the tokens whose scale is not 0, of the L2 norm of a token's vector.

    Args:
        activation: (..., d), any floating dtype; no gradient goes through.
        scale: Scale per token, broadcastable to `activation.shape[:-1]`.

    Returns:
        float32 scalar on the activation's device; sqrt(d) times the RMS per element. 0 if no token has a scale.

    >>> token_norm(torch.tensor([[3.0, 4.0], [9.0, 9.0]]), torch.tensor([0.1, 0.0]))
    tensor(5.)
    """
    covered = (scale != 0).expand(activation.shape[:-1]).to(torch.float32)
    squares = activation.detach().to(torch.float32).square().sum(-1) * covered
    return (squares.sum() / covered.sum().clamp(min=1)).sqrt()


def mix_seed(*parts: int) -> int:
    """One well-mixed 63-bit seed from any integers; a pure function, equal on every platform.

    >>> mix_seed(0, 1) != mix_seed(1, 0)
    True
    """
    state = 0
    for part in parts:
        # The finaliser of splitmix64 (Steele, Lea and Flood, 2014): neighbours differ in half of their bits, which
        # matters because torch's CPU generator uses only the low 32 bits of a seed.
        state = (state + (part & _MASK64) + 0x9E3779B97F4A7C15) & _MASK64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK64
        state ^= state >> 31
    return state >> 1


def _noise_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def noise(like: Tensor, scale: Tensor, seed: Tensor, distribution: str) -> Tensor:
    """Scaled noise for an activation, a pure function of its arguments. No global random state is read or moved.

    Args:
        like: Activation whose shape (..., d) and device the noise takes; its values are not read.
        scale: float32 scale per token, broadcastable to `like.shape[:-1]`.
        seed: int64 tensor of one element **on the CPU**: reading it never waits for a device.
        distribution: One of `Distribution`.

    Returns:
        Noise of the shape of `like`, float32 (float64 for a float64 activation).
    """
    eps = torch.empty(like.shape, dtype=_noise_dtype(like.dtype), device=like.device)
    if _is_drawn_in_blocks(like, distribution):
        rows = eps.view(-1, eps.shape[-1])
        for tokens, block in _uniform_blocks(rows, scale.expand(eps.shape[:-1]), seed):
            rows[tokens] = block
        return eps
    generator = torch.Generator(like.device).manual_seed(mix_seed(int(seed.item())))
    if distribution == "uniform":
        eps.uniform_(-1, 1, generator=generator)
    elif distribution == "rademacher":
        eps.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    else:
        eps.normal_(0, _RMS[distribution], generator=generator)
    return eps.mul_(scale.unsqueeze(-1))


@torch.library.custom_op("lightning_neft::add_noise", mutates_args=())
def add_noise(activation: Tensor, scale: Tensor, seed: Tensor, distribution: str) -> Tensor:
    """Activation plus its `noise`, out of place, in the activation's dtype; gradients pass to the activation.

    The sum is done in float32 (float64 for a float64 activation) and rounded once. Arguments as in `noise`.
    """
    if not _is_drawn_in_blocks(activation, distribution):
        return noise(activation, scale, seed, distribution).add_(activation).to(activation.dtype)
    noisy = torch.empty_like(activation, memory_format=torch.contiguous_format)
    clean, rows = activation.reshape(-1, activation.shape[-1]), noisy.view(-1, activation.shape[-1])
    for tokens, block in _uniform_blocks(clean, scale.expand(activation.shape[:-1]), seed):
        rows[tokens] = block.add_(clean[tokens])
    return noisy


@add_noise.register_fake
def _add_noise_fake(activation: Tensor, scale: Tensor, seed: Tensor, distribution: str) -> Tensor:
    return torch.empty_like(activation, memory_format=torch.contiguous_format)


def _to_activation(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    return gradient, None, None, None


add_noise.register_autograd(_to_activation)


def _is_drawn_in_blocks(activation: Tensor, distribution: str) -> bool:
    return activation.device.type == "cpu" and distribution == "uniform" and activation.numel() > 0


def _uniform_blocks(like: Tensor, scale: Tensor, seed: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Uniform noise on a CPU for the tokens (T, d) of an activation, as many at a time as stay in the cache.

    Each 64-bit number of numpy's SFC64, whose stream is the same in every version, gives the noise of two elements, in
    the order of memory: half of it, as an integer from -2**31 to 2**31 - 1, times scale / 2**31. `Tensor.uniform_` asks
    the generator of torch for each element, which takes more than twice as long.
    """
    tokens, width = like.shape
    # Even, so that no two blocks share a number of the generator.
    size = min(max(_BLOCK // width // 2, 1) * 2, tokens)
    block = torch.empty(size, width, dtype=_noise_dtype(like.dtype))
    scale = scale.reshape(-1, 1) * 2.0**-31
    generator = np.random.SFC64(mix_seed(int(seed.item())))
    for start in range(0, tokens, size):
        count = min(size, tokens - start)
        numbers = generator.random_raw((count * width + 1) // 2).view(np.int32)[: count * width]
        part = slice(start, start + count)
        yield part, block[:count].copy_(torch.from_numpy(numbers).view(count, width)).mul_(scale[part])


@torch.library.custom_op("lightning_neft::strength_sums", mutates_args=())
def strength_sums(
    clean: Tensor, noisy: Tensor, scale: Tensor, seed: Tensor, distribution: str, wanted: Tensor
) -> Tensor:
    """Sums from which the strength of one noisy forward pass is told, over the tokens whose scale is not 0.

    The noise is drawn once more for it. Opaque to the compiler on purpose: whether a step measures or not does not
    change the compiled graph.

    Args:
        clean: Activation before the noise, (..., d).
        noisy: Activation after the noise, same shape.
        scale: Scale per token that the noise was drawn with, broadcastable to `clean.shape[:-1]`.
        seed: Seed that it was drawn with.
        distribution: Distribution that it was drawn from.
        wanted: Bool tensor of one element **on the CPU**; where False nothing is computed.

    Returns:
        float32 tensor of shape (4,): sum of squared noise, sum of squared activations, number of elements that the
        noise left unchanged by rounding, number of elements.
    """
    if not wanted.item():
        return torch.zeros(4, device=clean.device)
    covered = (scale != 0).expand(clean.shape[:-1])
    per_token = torch.stack(
        [
            noise(clean, scale, seed, distribution).to(torch.float32).square().sum(-1),
            clean.to(torch.float32).square().sum(-1),
            (noisy == clean).sum(-1, dtype=torch.float32),
            torch.full(covered.shape, float(clean.shape[-1]), device=clean.device),
        ]
    )
    return (per_token * covered).flatten(1).sum(1)


@strength_sums.register_fake
def _strength_sums_fake(
    clean: Tensor, noisy: Tensor, scale: Tensor, seed: Tensor, distribution: str, wanted: Tensor
) -> Tensor:
    return clean.new_empty(4, dtype=torch.float32)
