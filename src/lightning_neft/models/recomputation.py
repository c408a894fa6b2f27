"""Activation checkpointing: what the backward pass of a block computes again instead of keeping it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch._ops import OpOverload
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from lightning_neft.models.execution import same_attention

__all__ = ["Recomputation", "recompute_blocks"]

Recomputation = bool | Literal["selective"]

_aten = torch.ops.aten
# Most of a block's time, and a small part of its activations. Batched products are left out: those of attention scores
# are large.
_PRODUCTS = frozenset({_aten.mm.default, _aten.addmm.default, _aten._grouped_mm.default, _aten._scaled_mm.default})
_ATTENTION = frozenset(
    {
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
        _aten._scaled_dot_product_fused_attention_overrideable.default,
    }
)


def recompute_blocks(model: Any, *, is_selective: bool, is_compiled: bool) -> None:
    """Make the blocks of a model keep only their inputs for the backward pass, which computes the rest again.

    Args:
        model: A model of transformers, bare or inside peft.
        is_selective: Also keep the results of matrix products and of attention, so that only cheap operations are
            repeated: PyTorch's selective activation checkpointing.
        is_compiled: Whether the model will be compiled; not together with is_selective.
    """
    options: dict[str, Any] = {"use_reentrant": False}
    if not is_compiled:
        options["context_fn"] = partial(_contexts, is_selective)
    # By name since transformers 5.23.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)


def _contexts(is_selective: bool) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return the contexts of a block's forward pass and of its repetition."""
    # The repetition is outside of the contexts of the forward pass, and would have another dtype.
    attention = same_attention()
    if not is_selective:
        return nullcontext(), attention
    forward, again = create_selective_checkpoint_contexts(_policy)  # type: ignore[no-untyped-call]
    return forward, _both(attention, again)


def _policy(_: Any, operation: OpOverload, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = operation in _PRODUCTS or (operation in _ATTENTION and not _has_dropout(operation, args, kwargs))
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def _has_dropout(operation: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether attention draws random numbers: left out, those of later operations would be others."""
    place = [argument.name for argument in operation._schema.arguments].index("dropout_p")
    share: float = args[place] if place < len(args) else kwargs.get("dropout_p", 0.0)
    return share > 0


@contextmanager
def _both(*contexts: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield
