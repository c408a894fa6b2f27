"""What a `.ckpt` stores of a model, and whether it fits the configured model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_neft.errors import ModelError

__all__ = ["DESCRIPTION", "check_description", "check_weights", "keep_trained"]

# The entry of a checkpoint that describes its model: plain strings and booleans, which load without running code.
DESCRIPTION = "lightning_neft"
_MOST_NAMES = 5


def keep_trained(weights: Mapping[str, Tensor], trained: Collection[str]) -> dict[str, Tensor]:
    """Return the trained weights of a checkpoint; all weights if they are sharded.

    Args:
        weights: The weights by name.
        trained: Names of the trained ones.
    """
    # Shards are read back into all parameters of the sharded model: those that are not there are an error.
    if any(hasattr(value, "full_tensor") for value in weights.values()):
        return dict(weights)
    return {name: value for name, value in weights.items() if name in trained}


def check_description(found: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> None:
    """Check that a checkpoint belongs to the configured model.

    Args:
        found: Its description: `base`, `architecture`, `adapters`, of a classifier `labels`; None without one.
        expected: The same of the configured model.

    Raises:
        ModelError: It belongs to another model.
    """
    if found is None:
        return
    if found["architecture"] != expected["architecture"]:
        raise ModelError(
            f"the checkpoint is of a {found['architecture']} (model.base={found['base']}), but "
            f"model.base={expected['base']} gives a {expected['architecture']}; give the base of the checkpoint"
        )
    classes, own_classes = found.get("labels") or [], expected.get("labels") or []
    # Numbers may be the names of classes that have none.
    if len(classes) == len(own_classes) and classes != own_classes != [str(index) for index in range(len(classes))]:
        raise ModelError(
            f"the checkpoint is of a classifier of {_few(classes)}, but the classes of the data are "
            f"{_few(own_classes)}; give data with the classes of the checkpoint"
        )
    if found["adapters"] and not expected["adapters"]:
        raise ModelError("the checkpoint holds adapters only; give the model.lora options of its run")
    if expected["adapters"] and not found["adapters"]:
        raise ModelError("the checkpoint holds all weights of a model without adapters; omit model.lora")
    if (taken := found.get("taken_from_base")) != (own := expected.get("taken_from_base")):
        raise ModelError(
            f"the checkpoint holds adapters of model.lora.init_lora_weights={taken or 'true'}, but {own or 'true'} is "
            "configured, which leaves other weights in the base; give that of the checkpoint"
        )
    # Folders may have moved: compare the last part of the name.
    if found["adapters"] and Path(found["base"]).name != Path(expected["base"]).name:
        raise ModelError(
            f"the checkpoint holds adapters for model.base={found['base']}, but model.base={expected['base']} is "
            "configured; give the base of the checkpoint"
        )


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_MOST_NAMES])}{', ...' if len(names) > _MOST_NAMES else ''}"


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], required: Collection[str]) -> None:
    """Check the names and shapes of a checkpoint's weights.

    Args:
        found: Those of the checkpoint.
        expected: Those of the model.
        required: Names that the checkpoint must have.

    Raises:
        ModelError: If one is missing, unknown, or of another shape.

    Example:
        >>> import torch
        >>> check_weights({"w": torch.zeros(2)}, {"w": torch.ones(2), "frozen": torch.ones(1)}, required=["w"])
    """
    problems = {
        "lacks": [name for name in required if name not in found],
        "has unknown": [name for name in found if name not in expected],
        "has in another shape": [
            f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
            for name, value in found.items()
            if name in expected and value.shape != expected[name].shape
        ],
    }
    for what, names in problems.items():
        if names:
            raise ModelError(
                f"the checkpoint does not fit the model: it {what} {names[0]}"
                f"{f' and {len(names) - 1} more' if len(names) > 1 else ''}; give the model.* options of its run"
            )
