"""Checks of the values that a user gives: each names the option, the value and what is allowed."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any, TypeGuard, TypeVar, get_args

import torch

from lightning_neft.errors import ConfigError
from lightning_neft.noise.lengths import BatchToMask, Length

__all__ = [
    "check_alpha",
    "check_batch_to_mask",
    "check_choice",
    "check_exclude",
    "check_integer",
    "check_length",
    "check_reference_norm",
]

# The scale is computed in float32, where larger numbers are infinite.
_LARGEST = torch.finfo(torch.float32).max
_Choice = TypeVar("_Choice", bound=str)


def check_alpha(alpha: object) -> float:
    """Return alpha as a float, or raise ConfigError if it is not a finite number of at least 0."""
    if not _is_finite(alpha) or not 0 <= alpha <= _LARGEST:
        raise ConfigError(f"alpha={alpha!r}: use a finite number >= 0; the paper uses 5, 10 and 15, and 0 is off.")
    return float(alpha)


def check_choice(name: str, value: _Choice, choices: Any) -> _Choice:
    """Return a value, or raise ConfigError if it is not one of a `Literal`."""
    if value not in get_args(choices):
        raise ConfigError(f"{name}={value!r}: use one of {', '.join(get_args(choices))}.")
    return value


def check_exclude(exclude: Any) -> tuple[int, ...]:
    """Return token ids as a sorted tuple, or raise ConfigError if one is not an integer >= 0."""
    try:
        ids = sorted({check_integer("exclude", one) for one in exclude})
        if isinstance(exclude, str) or any(one < 0 for one in ids):
            raise TypeError
    except (ConfigError, TypeError):
        raise ConfigError(
            f"exclude={exclude!r}: use a list of token ids, for example tokenizer.all_special_ids."
        ) from None
    return tuple(ids)


def check_integer(name: str, value: Any) -> int:
    """Return an integer of Python, numpy or a tensor as an int, or raise ConfigError."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{name}={value!r}: use an integer.") from None


def check_length(length: Any) -> Length:
    """Return the length rule, or raise ConfigError."""
    if length in ("true", "padded"):
        return length  # type: ignore[no-any-return]
    if isinstance(length, bool) or not isinstance(length, numbers.Integral) or length < 1:
        raise ConfigError(f"length={length!r}: use 'true', 'padded' or a number of tokens >= 1.")
    return int(length)


def check_reference_norm(reference_norm: object, is_relative: bool) -> float:
    """Return the norm as a float, or raise ConfigError if it is not a number > 0, or not 1 without a relative scale."""
    if not _is_finite(reference_norm) or reference_norm <= 0:
        raise ConfigError(f"reference_norm={reference_norm!r}: use a finite number > 0.")
    if not is_relative and reference_norm != 1:
        raise ConfigError(f"reference_norm={reference_norm!r} needs scale='relative': the paper's scale has no norm.")
    return float(reference_norm)


def check_batch_to_mask(batch_to_mask: Any) -> BatchToMask | None:
    """Return the function, or raise ConfigError if it is not one."""
    if batch_to_mask is not None and not callable(batch_to_mask):
        raise ConfigError(
            f"batch_to_mask={batch_to_mask!r}: use a function from the batch to its mask (B, L), for example "
            "lambda batch: batch['mask']."
        )
    return batch_to_mask  # type: ignore[no-any-return]


def _is_finite(value: object) -> TypeGuard[float]:
    # By abstract class: numpy's numbers are numbers too.
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)
