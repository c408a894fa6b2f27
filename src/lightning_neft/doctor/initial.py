"""The values that a model's own initialisation gives a single weight or some rows of one; the model stays without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neft.noise.functional import mix_seed

__all__ = ["initial_values"]


def initial_values(model: nn.Module, weight: Tensor, rows: Tensor | None = None) -> Tensor | None:
    """Make the initial values of one weight on the CPU; the model stays as it is.

    Args:
        model: A model of transformers on the meta device.
        weight: A parameter or buffer of it.
        rows: int64 (n,), the rows that are wanted; None for all of the weight.

    Returns:
        A tensor of the weight's dtype, equal at each call, or None if the model does not initialise it.

    >>> from lightning_neft.doctor.skeleton import build_skeleton, load_config
    >>> model = build_skeleton(load_config("tiny"), "tiny", torch.float32)
    >>> rows = initial_values(model, model.get_input_embeddings().weight, torch.arange(50))
    >>> rows.shape, round(rows.std().item(), 2)
    (torch.Size([50, 128]), 0.02)
    """
    count = weight.shape[0] if rows is None and weight.dim() else len(rows) if rows is not None else 0
    made = torch.zeros((count, *weight.shape[1:]) if weight.dim() else (), dtype=weight.dtype)
    untouched = made._version
    with _in_place_of(model, weight, made) as holders, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(mix_seed(*weight.shape, *([] if rows is None else rows.tolist())))
        for module, owner in _to_initialise(model, holders):
            owner._init_weights(module)
    # Every in-place operation counts the version of its tensor up.
    return made if made._version != untouched else None


@contextmanager
def _in_place_of(model: nn.Module, weight: Tensor, made: Tensor) -> Iterator[set[nn.Module]]:
    """Put a tensor in the place of a weight while the block runs; yields the modules that hold it."""
    places = [
        (module, name)
        for module in model.modules()
        for name, held in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        if held is weight
    ]
    # An output layer is tied to the embedding after both are initialised.
    head_of: Any = getattr(model, "get_output_embeddings", None)
    head = head_of() if head_of is not None else None
    places = [(module, name) for module, name in places if module is not head] or places
    replacement: Any = nn.Parameter(made, requires_grad=False) if isinstance(weight, nn.Parameter) else made
    holders = {module for module, _ in places}
    # Rows have other numbers here. The row of the padding token, which gets no noise, stays as random as the others.
    padding = {module: module.padding_idx for module in holders if isinstance(module, nn.Embedding)}
    try:
        for module, name in places:
            setattr(module, name, replacement)
        for module in padding:
            module.padding_idx = None
        yield holders
    finally:
        for module, name in places:
            setattr(module, name, weight)
        for module, index in padding.items():
            module.padding_idx = index


def _to_initialise(model: nn.Module, holders: set[nn.Module]) -> list[tuple[nn.Module, Any]]:
    """The modules whose initialisation can reach the weight, inner ones first, each with the model that does it.

    A model may initialise a weight at the module that holds it or at any module around that one.
    """
    found: list[tuple[nn.Module, Any]] = []

    def walk(module: nn.Module, owner: Any) -> bool:
        owner = module if hasattr(module, "_init_weights") else owner
        inside = [walk(child, owner) for child in module.children()]
        concerned = module in holders or any(inside)
        if concerned and owner is not None:
            found.append((module, owner))
        return concerned

    walk(model, None)
    return found
