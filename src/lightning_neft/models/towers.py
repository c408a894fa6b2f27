"""The parts of a vision-language model that text does not pass through: towers for images or sound, and projectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from lightning_neft.hub.vision_language import is_vision_language

__all__ = ["towers", "towers_line"]


def towers(model: Any) -> list[str]:
    """Return the names of the outermost modules, and of single parameters, outside the text model.

    Without gradients in training on text they would only cost memory, and DDP ends a run over such parameters.

    Args:
        model: A model of transformers; empty for one that reads text alone.
    """
    if not is_vision_language(model.config):
        return []
    # The head of a language model or classifier lies outside the base model.
    base, text = model.base_model, model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is base)
    return list(_outside(base, set(text.modules()), f"{prefix}." if prefix else ""))


def _outside(module: nn.Module, text: set[nn.Module], prefix: str) -> Iterator[str]:
    for name, _ in module.named_parameters(recurse=False):
        yield f"{prefix}{name}"
    for name, child in module.named_children():
        if child in text:
            continue
        if not text.isdisjoint(child.modules()):
            yield from _outside(child, text, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            yield f"{prefix}{name}"


def towers_line(model: Any, names: list[str]) -> str:
    """Return a line for a person on the towers of a model, with their number of parameters."""
    count = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if any(name == tower or name.startswith(f"{tower}.") for tower in names)
    )
    return f"{', '.join(names)} ({count:,} parameters)"
