"""Adapters that began with a part of the base's weights (PiSSA, OLoRA) as plain LoRA on the whole base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["as_plain_lora", "describe_as_plain_lora"]


def as_plain_lora(weights: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return adapters of twice the rank that fit the whole base: the trained ones less those of the beginning.

    With W the base, W - B0 A0 what the beginning left of it, the trained model has W - B0 A0 + B A, which is
    W + [B, -B0] [A; A0]. peft's `subtract_mutated_init` states the same, for adapters alone and on a live model.

    Args:
        weights: Weights of a model by name, adapters among them: A (r, in), B (out, r).
        initial: The adapters of the beginning, by the same names.

    Example:
        >>> found = as_plain_lora(
        ...     {"lora_A": torch.ones(1, 2), "lora_B": torch.ones(3, 1)},
        ...     {"lora_A": torch.zeros(1, 2), "lora_B": torch.ones(3, 1)},
        ... )
        >>> found["lora_B"] @ found["lora_A"]
        tensor([[1., 1.],
                [1., 1.],
                [1., 1.]])
    """
    found = dict(weights)
    for name, first in initial.items():
        value = weights[name]
        first = first.to(value)
        is_b = "lora_B" in name or "lora_embedding_B" in name
        found[name] = torch.cat([value, -first], dim=1) if is_b else torch.cat([value, first], dim=0)
    return found


def describe_as_plain_lora(folder: Path) -> None:
    """Change the config of saved adapters to that of `as_plain_lora`, of the same scale."""
    from peft import LoraConfig

    config = LoraConfig.from_pretrained(str(folder))
    config.init_lora_weights = True
    config.r *= 2
    # The scale is alpha / r, or alpha / sqrt(r).
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2
    config.save_pretrained(str(folder))
