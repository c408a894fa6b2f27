"""Learning-rate schedules: those of transformers by name, whose length is asked for at the first step, and others."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from lightning_neft.errors import ConfigError

__all__ = ["LRSchedulerName", "named_schedule", "schedule_config"]

LRSchedulerName = Literal["cosine", "linear", "constant", "constant_with_warmup"]
"""Names of transformers' `get_scheduler`."""


def schedule_config(
    lr_scheduler: LRSchedulerName | LRSchedulerCallable,
    optimizer: Optimizer,
    warmup_ratio: float,
    total_steps: Callable[[], float],
) -> dict[str, Any]:
    """Return a schedule as Lightning wants it from `configure_optimizers`: it moves with each optimiser step.

    Args:
        lr_scheduler: A name, or what makes the schedule of the optimiser.
        optimizer: Its learning rates are the highest ones of a named schedule.
        warmup_ratio: Share of the steps in which the rates of a named schedule rise.
        total_steps: Returns the number of optimiser steps of the run.

    Raises:
        ConfigError: If the schedule cannot be made, or names no metric that it follows.
    """
    if isinstance(lr_scheduler, str):
        return {"scheduler": named_schedule(lr_scheduler, optimizer, warmup_ratio, total_steps), "interval": "step"}
    try:
        schedule = lr_scheduler(optimizer)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.lr_scheduler: {' '.join(str(error).split())}") from error
    if not isinstance(schedule, ReduceLROnPlateau):
        return {"scheduler": schedule, "interval": "step"}
    if (monitor := getattr(schedule, "monitor", None)) is None:
        raise ConfigError(
            "model.lr_scheduler: torch's ReduceLROnPlateau names no metric; give lightning.pytorch.cli."
            "ReduceLROnPlateau with --model.lr_scheduler.monitor, such as val/loss"
        )
    return {"scheduler": schedule, "interval": "epoch", "monitor": monitor}


def named_schedule(
    name: LRSchedulerName, optimizer: Optimizer, warmup_ratio: float, total_steps: Callable[[], float]
) -> LambdaLR:
    """Return a schedule of transformers' `get_scheduler`, whose length is asked for later.

    Later, because `Trainer.estimated_stepping_batches` builds the training loader, and Lightning restores the position
    of a loader only when it builds it after reading the checkpoint. Asked for in `configure_optimizers`, which comes
    before that, it makes a resumed run start its epoch anew, without a word.

    Args:
        name: The schedule.
        optimizer: Its learning rates are the highest ones.
        warmup_ratio: Share of the steps in which they rise, rounded up to a step; `constant` has none.
        total_steps: Returns the number of optimiser steps of the run; called at the first step.
    """

    @cache
    def theirs() -> Callable[[int], float]:
        from transformers import get_scheduler

        total = 0 if name == "constant" else int(total_steps())
        # The optimiser only carries the function.
        carrier = torch.optim.SGD([torch.zeros(1)])
        made = get_scheduler(name, carrier, math.ceil(warmup_ratio * total), total)
        function: Callable[[int], float] = made.lr_lambdas[0]
        return function

    def factor(step: int) -> float:
        if step == 0:
            return 0.0 if warmup_ratio > 0 and name != "constant" else 1.0
        return float(theirs()(step))

    return LambdaLR(optimizer, factor)
