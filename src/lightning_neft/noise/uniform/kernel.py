"""The Triton kernel that adds the noise on a GPU: one read and one write of the activation, no noise in memory."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["add_noise_kernel"]


# Each step has another seed: a kernel compiled for its value or divisibility would be compiled again and again.
@triton.jit(do_not_specialize=["seed_low", "seed_high"])
def add_noise_kernel(activation, noisy, scale, seed_low, seed_high, width, block: tl.constexpr):
    """Adds the noise to one block of one token's elements; the grid is (tokens * blocks of a token,).

    The integers are those of `philox.philox_integers`, the arithmetic that of `uniform.add_uniform_noise`.

    Args:
        activation: (tokens, width), contiguous, float32, bfloat16 or float16.
        noisy: Where the sum goes, like `activation`.
        scale: (tokens,), float32.
        seed_low: Low half of the 64-bit seed, as int32.
        seed_high: High half, as int32.
        width: Elements of a token.
        block: Elements of a block, a power of 2, 4 or more.
    """
    blocks = tl.cdiv(width, block)
    token, part = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    columns = part * block + tl.arange(0, block)
    elements = token.to(tl.int64) * width + columns
    inside = columns < width
    clean = tl.load(activation + elements, mask=inside)
    bound = tl.load(scale + token)
    total = clean.to(tl.float32)
    # Padding has no noise: nothing is drawn for it.
    if bound != 0:
        first = (part * (block // 4) + tl.arange(0, block // 4)).to(tl.uint32, bitcast=True)
        zeros = tl.zeros_like(first)
        second = zeros + token.to(tl.uint32, bitcast=True)
        low, high = seed_low.to(tl.uint32, bitcast=True), seed_high.to(tl.uint32, bitcast=True)
        word0, word1, word2, word3 = tl.philox_impl(first, second, zeros, zeros, low, high, 10)
        integers = tl.join(tl.join(word0, word2), tl.join(word1, word3)).reshape(block).to(tl.int32, bitcast=True)
        total += integers.to(tl.float32) * (bound * 0.5**31)
    tl.store(noisy + elements, total.to(clean.dtype), mask=inside)
