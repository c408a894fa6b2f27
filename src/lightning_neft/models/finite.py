"""Non-finite weights are never saved: the check, and the advice in its message."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_neft.errors import NonFiniteError

if TYPE_CHECKING:
    from lightning_neft.models.pretrained import PretrainedModule

__all__ = ["advice_against_overflow", "check_trained_weights", "first_non_finite", "float16_of"]


def first_non_finite(weights: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return the name of the first tensor that holds NaN or an infinity, or None; waits for the device.

    Example:
        >>> first_non_finite([("a", torch.ones(2)), ("b", torch.tensor([1.0, float("nan")]))])
        'b'
    """
    for name, value in weights:
        # Sharded weights: the local part.
        part: Tensor = value.to_local() if hasattr(value, "to_local") else value
        part = part.detach()
        # Minimum and maximum need no second tensor of this size, and are NaN if a value is.
        if part.is_floating_point() and part.numel() and not all(math.isfinite(x) for x in torch.aminmax(part)):
            return name
    return None


def check_trained_weights(module: PretrainedModule) -> None:
    """Check the weights of a checkpoint before it is written, on all ranks.

    Raises:
        NonFiniteError: A weight is NaN or infinite.
    """
    name = first_non_finite((name, value) for name, value in module.named_parameters() if value.requires_grad)
    if module._trainer is None:
        is_bad, step = name is not None, 0
    else:
        trainer = module.trainer
        is_bad, step = trainer.strategy.reduce_boolean_decision(name is not None, all=False), trainer.global_step
    if is_bad:
        raise NonFiniteError(
            f"the weights are not finite after step {step} ({name or 'on another rank'}) and were not saved; "
            f"{advice_against_overflow(module)}"
        )


def advice_against_overflow(module: Any) -> str:
    """Return the advice that ends a message about non-finite losses or weights."""
    rate = getattr(module, "learning_rate", None)
    found = f"try a smaller model.learning_rate{'' if rate is None else f' than {rate:g}'}"
    half = float16_of(module)
    return found if half is None else f"{found}, or trainer.precision=32-true instead of {half}"


def float16_of(module: Any) -> str | None:
    """Return what of a run is in float16, where numbers above 65504 and below 6e-8 are lost; None if nothing is."""
    precision = f"trainer.precision={module.trainer.precision}" if module._trainer is not None else "its precision"
    if getattr(getattr(module, "model", None), "dtype", None) is torch.float16:
        return f"{precision} with weights in float16"
    return precision if "=16-" in precision else None
