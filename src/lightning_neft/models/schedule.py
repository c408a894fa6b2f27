"""The learning rate of the paper: a cosine after a warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["cosine_with_warmup"]


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
