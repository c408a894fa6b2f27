"""The random numbers of the noise on accelerators, by their definition: Philox 4x32-10, in plain PyTorch on any device.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): a block cipher of ten rounds
turns a counter and a key into four 32-bit words, so that each element is drawn by itself, wherever it lies. The kernel
in `fused_kernel` computes the same words.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["philox", "philox_integers"]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
# What the two halves of the key grow by from round to round.
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK32 = (1 << 32) - 1

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Ten rounds of Philox 4x32.

    Args:
        counter: Four int64 tensors of one shape that hold 32-bit words.
        key: Two 32-bit words.

    Returns:
        Four tensors like those of the counter.
    """
    words = counter
    for _ in range(_ROUNDS):
        (high_a, low_a), (high_b, low_b) = _product(words[0], _MULTIPLIERS[0]), _product(words[2], _MULTIPLIERS[1])
        words = (high_b ^ words[1] ^ key[0], low_b, high_a ^ words[3] ^ key[1], low_a)
        key = ((key[0] + _WEYL[0]) & _MASK32, (key[1] + _WEYL[1]) & _MASK32)
    return words


def philox_integers(seed: int, tokens: range, width: int, device: torch.device) -> Tensor:
    """Uniform integers for the elements of some tokens.

    Element i of token t is word i % 4 of Philox 4x32-10 with the counter (i // 4, t, 0, 0) and the seed as its key.

    Args:
        seed: Key, 64 bits, the low half first.
        tokens: Consecutive numbers of tokens in the flattened activation.
        width: Elements of a token.
        device: Where they are computed.

    Returns:
        (len(tokens), width), int32, uniform from -2**31 to 2**31 - 1.

    >>> [hex(word & 0xFFFFFFFF) for word in philox_integers(0, range(1), 4, torch.device("cpu"))[0].tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    first = torch.arange(-(-width // 4), device=device).expand(len(tokens), -1)
    second = torch.arange(tokens.start, tokens.stop, device=device)[:, None].expand_as(first)
    nothing = torch.zeros_like(first)
    words = philox((first, second, nothing, nothing), (seed & _MASK32, seed >> 32 & _MASK32))
    unsigned = torch.stack(words, -1).flatten(1)[:, :width]
    # The same 32 bits, with a sign.
    return torch.where(unsigned < 1 << 31, unsigned, unsigned - (1 << 32)).to(torch.int32)


def _product(words: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a product of 32-bit words held in int64, which keeps all 64 of them (its sign apart)."""
    product = words * multiplier
    return product >> 32 & _MASK32, product & _MASK32
