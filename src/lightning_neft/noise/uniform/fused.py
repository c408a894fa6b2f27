"""The noise on a GPU as one Triton kernel, where Triton can build it: the numbers of the plain path in one pass."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["add_noise_fused", "is_fused", "launch_options"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Elements of a block and of one of its threads: in bfloat16 one load and one store of 16 bytes.
_BLOCK, _PER_THREAD = 1024, 8
_WARP = 32


def is_fused(activation: Tensor) -> bool:
    """Whether the kernel can add noise to an activation: float32, bfloat16 or float16, on a GPU where Triton works."""
    is_served = activation.is_cuda and activation.dtype in _DTYPES and activation.numel() > 0
    return is_served and _is_built(activation.device)


def add_noise_fused(activation: Tensor, scale: Tensor, seed: int) -> Tensor:
    """Activation plus uniform noise, as `uniform.add_uniform_noise` defines it.

    Needs memory for the result and for the scale, 4 bytes per token.

    Args:
        activation: (..., d), one of the dtypes that `is_fused` takes.
        scale: float32 scale per token, broadcastable to `activation.shape[:-1]`, on the activation's device.
        seed: 64 bits, mixed already.

    Returns:
        A new contiguous tensor like `activation`.
    """
    # Imported at first use: a CPU needs no Triton.
    from lightning_neft.noise.uniform.kernel import add_noise_kernel

    width = activation.shape[-1]
    noisy = torch.empty_like(activation, memory_format=torch.contiguous_format)
    # A power of 2, and 4 or more: the generator draws for four elements at a time.
    block = min(max(1 << (width - 1).bit_length(), 4), _BLOCK)
    grid = (activation.numel() // width * -(-width // block),)
    # Triton launches on the current device, which need not be the tensor's.
    with torch.cuda.device_of(activation):  # type: ignore[no-untyped-call]
        add_noise_kernel[grid](
            activation.contiguous(),
            noisy,
            scale.expand(activation.shape[:-1]).contiguous(),
            _signed32(seed),
            _signed32(seed >> 32),
            width,
            block,
            **launch_options(block),
        )
    return noisy


def launch_options(block: int) -> dict[str, Any]:
    """Launch options of Triton for blocks of some number of elements."""
    # One rounding for the product and one for the sum, as in the plain path.
    return {"num_warps": max(block // (_WARP * _PER_THREAD), 1), "enable_fp_fusion": False}


@cache
def _is_built(device: torch.device) -> bool:
    """Whether the kernel can be built and launched on a device; warns once if it cannot."""
    try:
        add_noise_fused(torch.zeros(1, 4, device=device), torch.zeros(1, device=device), 0)
    except Exception as error:  # No Triton, no C compiler, a GPU that it does not know: each has its own class.
        warnings.warn(
            f"Triton could not build the noise kernel on {device} ({type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}). The same noise is added without it; each step takes longer.",
            stacklevel=2,
        )
        return False
    return True


def _signed32(number: int) -> int:
    """The low 32 bits as int32, whatever the seed: other types would make Triton build the kernel again."""
    return (number & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
