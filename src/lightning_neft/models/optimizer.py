"""AdamW as the paper uses it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter

__all__ = ["adamw"]


def adamw(parameters: Iterable[Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW for the parameters that are trained, whose decay leaves biases and norms out.

    Args:
        parameters: Trained and frozen ones.
        learning_rate: The learning rate.
        weight_decay: Decay of the parameters with two dimensions or more.

    Example:
        >>> optimizer = adamw(torch.nn.Linear(2, 3).parameters(), 1e-3, weight_decay=0.1)
        >>> [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
        [(0.1, 1), (0.0, 1)]
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)
