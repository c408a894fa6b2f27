"""The optimiser and its learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["adamw", "cosine_with_warmup"]


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


def cosine_with_warmup(optimizer: Optimizer, warmup_ratio: float, total_steps: Callable[[], float]) -> LambdaLR:
    """Return the schedule of transformers' `get_cosine_schedule_with_warmup`, whose length is asked for later.

    Later, because `Trainer.estimated_stepping_batches` builds the training loader, and Lightning restores the position
    of a loader only when it builds it after reading the checkpoint. Asked for in `configure_optimizers`, which comes
    before that, it makes a resumed run start its epoch anew, without a word.

    Args:
        optimizer: Its learning rates are the highest ones.
        warmup_ratio: Share of the steps in which they rise, rounded up to a step.
        total_steps: Returns the number of optimiser steps of the run; called at the first step.
    """
    total_steps = cache(total_steps)

    def factor(step: int) -> float:
        if step == 0:
            return 0.0 if warmup_ratio > 0 else 1.0
        total = total_steps()
        warmup = math.ceil(warmup_ratio * total)
        if step < warmup:
            return step / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, factor)
