"""Uniform noise added to an activation: on a CPU, on a GPU in one kernel, and anywhere else in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lightning_neft.noise.uniform.fused import add_noise_fused, is_fused
from lightning_neft.noise.uniform.philox import philox_integers

__all__ = ["add_uniform_noise"]

# Elements at a time. On a CPU as many as stay in its cache: half a megabyte in float32 and with the generator's
# numbers. Elsewhere, where the words are int64, more, for each operation has to be launched.
_CPU_BLOCK, _DEVICE_BLOCK = 1 << 16, 1 << 20


def add_uniform_noise(activation: Tensor, scale: Tensor, seed: int) -> Tensor:
    """Activation plus scale * eps, eps ~ Uniform(-1, 1), a pure function of its arguments.

    eps is a 32-bit integer from -2**31 to 2**31 - 1 divided by 2**31. The sum is done in float32 (float64 for a float64
    activation) and rounded once. The integers of a CPU are those of numpy's SFC64 in the order of memory, which
    take less than half the time of torch's generator there; those of all other devices are Philox's
    (`philox_integers`).

    Args:
        activation: (..., d), any floating dtype.
        scale: float32 scale per token, broadcastable to `activation.shape[:-1]`; where 0, there is no noise.
        seed: 64 bits, mixed already.

    Returns:
        A new contiguous tensor of the shape and dtype of `activation`.
    """
    if is_fused(activation):
        return add_noise_fused(activation, scale, seed)
    noisy = torch.empty_like(activation, memory_format=torch.contiguous_format)
    if not activation.numel():
        return noisy
    width = activation.shape[-1]
    clean, rows = activation.reshape(-1, width), noisy.view(-1, width)
    bound = scale.expand(activation.shape[:-1]).reshape(-1, 1) * 2.0**-31
    on_cpu = activation.device.type == "cpu"
    draw = _sfc64_integers(seed, width) if on_cpu else _philox_integers(seed, width, activation.device)
    # Even, so that no two blocks share a 64-bit number.
    size = max((_CPU_BLOCK if on_cpu else _DEVICE_BLOCK) // width // 2, 1) * 2
    dtype = torch.promote_types(activation.dtype, torch.float32)
    block = torch.empty(min(size, len(clean)), width, dtype=dtype, device=activation.device)
    for start in range(0, len(clean), size):
        tokens = range(start, min(start + size, len(clean)))
        part = slice(start, tokens.stop)
        rows[part] = block[: len(tokens)].copy_(draw(tokens)).mul_(bound[part]).add_(clean[part])
    return noisy


def _sfc64_integers(seed: int, width: int) -> Callable[[range], Tensor]:
    """Two integers of each 64-bit number, block after block; numpy keeps the stream the same in every version."""
    generator = np.random.SFC64(seed)

    def draw(tokens: range) -> Tensor:
        count = len(tokens) * width
        integers = generator.random_raw((count + 1) // 2).view(np.int32)[:count]
        return torch.from_numpy(integers).view(-1, width)

    return draw


def _philox_integers(seed: int, width: int, device: torch.device) -> Callable[[range], Tensor]:
    return lambda tokens: philox_integers(seed, tokens, width, device)
