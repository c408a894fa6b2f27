"""The noise as pure functions: distributions, scale, seeds, and the operators that a compiled graph can hold.

Formula (Jain et al., "NEFTune", arXiv 2310.05914, Algorithm 1): X' = X + alpha / sqrt(L d) * eps, eps ~ Uniform(-1, 1).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_neft.noise.uniform.paths import add_uniform_noise

__all__ = [
    "TAGS",
    "Distribution",
    "add_noise",
    "expected_rms",
    "mix_seed",
    "noise",
    "scale_from_lengths",
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

# For operators that read a seed on the CPU when they run: a captured CUDA graph would replay its noise.
TAGS = (torch.Tag.cudagraph_unsafe,)


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


def noise(like: Tensor, scale: Tensor, seed: Tensor, distribution: str) -> Tensor:
    """Scaled noise for an activation, a pure function of its arguments. Reads and moves no global random state.

    Args:
        like: Activation whose shape (..., d) and device the noise takes; its values are not read.
        scale: float32 scale per token, broadcastable to `like.shape[:-1]`.
        seed: int64 tensor of one element **on the CPU**: reading it never waits for a device.
        distribution: One of `Distribution`.

    Returns:
        Noise of the shape of `like`, float32 (float64 for a float64 activation).
    """
    nothing = torch.zeros(like.shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
    return _noisy(nothing, scale, seed, distribution)


@torch.library.custom_op("lightning_neft::add_noise", mutates_args=(), tags=TAGS)
def add_noise(activation: Tensor, scale: Tensor, seed: Tensor, distribution: str) -> Tensor:
    """Activation plus its `noise`, out of place, in the activation's dtype; gradients flow to the activation.

    The sum is done in float32 (float64 for a float64 activation) and rounded once. Arguments as in `noise`.
    """
    return _noisy(activation, scale, seed, distribution)


@add_noise.register_fake
def _add_noise_fake(activation: Tensor, scale: Tensor, seed: Tensor, distribution: str) -> Tensor:
    return torch.empty_like(activation, memory_format=torch.contiguous_format)


def _to_activation(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    return gradient, None, None, None


add_noise.register_autograd(_to_activation)


def _noisy(activation: Tensor, scale: Tensor, seed: Tensor, distribution: str) -> Tensor:
    mixed = mix_seed(int(seed.item()))
    if distribution == "uniform":
        return add_uniform_noise(activation, scale, mixed)
    dtype = torch.promote_types(activation.dtype, torch.float32)
    eps = torch.empty(activation.shape, dtype=dtype, device=activation.device)
    generator = torch.Generator(activation.device).manual_seed(mixed)
    if distribution == "rademacher":
        eps.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    else:
        eps.normal_(0, _RMS[distribution], generator=generator)
    return eps.mul_(scale.unsqueeze(-1)).add_(activation).to(activation.dtype)
