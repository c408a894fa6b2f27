"""Freeze parameters by their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from torch.nn import Parameter

from lightning_neft.errors import ConfigError

__all__ = ["freeze"]

# What peft puts in front of the names of the model that it wraps.
_PEFT_PREFIX = "base_model.model."


def freeze(model: Any, patterns: Sequence[str]) -> int:
    r"""Exclude parameters from training.

    Args:
        model: The model, bare or inside peft; names are those of the bare model.
        patterns: Each the name of a parameter, the name of a module for all parameters below it, or a regular
            expression that matches whole names.

    Returns:
        How many parameters are frozen by it, tied ones counted once.

    Raises:
        ConfigError: If a pattern matches nothing, or nothing is left to train.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> freeze(model, ["0", r".*\.bias"])
        3
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['1.weight']
    """
    # With both names of a tied parameter: either may be the one that the user knows.
    parameters = {
        name.removeprefix(_PEFT_PREFIX): parameter for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    frozen: dict[int, Parameter] = {}
    for pattern in patterns:
        found = [parameter for name, parameter in parameters.items() if _matches(pattern, name)]
        if not found:
            raise ConfigError(f"model.freeze: {pattern!r} matches no parameter{_nearest(pattern, parameters)}")
        frozen.update((id(parameter), parameter) for parameter in found)
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(f"model.freeze={list(patterns)!r} freezes all parameters; leave something to train")
    return len(frozen)


def _matches(pattern: str, name: str) -> bool:
    if name == pattern or name.startswith(f"{pattern}."):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ConfigError(f"model.freeze: {pattern!r} is neither a name nor a regular expression: {error}") from error


def _nearest(pattern: str, parameters: dict[str, Parameter]) -> str:
    """Return words about the names that look most like the pattern."""
    known: dict[str, None] = {}
    for name in parameters:
        parts = name.split(".")
        known.update((".".join(parts[:depth]), None) for depth in range(1, len(parts) + 1))
    nearest = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4)
    return (
        f"; the nearest names are {', '.join(nearest)}" if nearest else f"; names begin with {', '.join(_roots(known))}"
    )


def _roots(known: dict[str, None]) -> list[str]:
    return [name for name in known if "." not in name]
