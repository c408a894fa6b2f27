"""The named schedules against those of transformers."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from transformers import get_scheduler

from lightning_neft.models.schedule import LRSchedulerName, named_schedule, schedule_config


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)` before:UserWarning")
@pytest.mark.parametrize("name", get_args(LRSchedulerName))
@pytest.mark.parametrize(("total", "ratio"), [(100, 0.03), (7, 0.5), (20, 0.0), (1, 0.03), (3, 1.0)])
def test_it_is_the_schedule_of_transformers(name: LRSchedulerName, total: int, ratio: float) -> None:
    def rates(make) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        schedule = make(optimizer)
        found = []
        for _ in range(total + 2):
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        return found

    theirs = rates(lambda optimizer: get_scheduler(name, optimizer, math.ceil(ratio * total), total))
    assert rates(lambda optimizer: named_schedule(name, optimizer, ratio, lambda: total)) == theirs


def test_the_length_is_not_asked_for_before_the_first_step() -> None:
    asked: list[int] = []
    schedule = named_schedule("cosine", torch.optim.SGD([torch.zeros(1)], lr=0.1), 0.5, lambda: asked.append(1) or 10)
    assert asked == []
    schedule.optimizer.step()
    schedule.step()
    schedule.step()
    assert asked == [1]


def test_a_plateau_is_watched_at_the_validations() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    found = schedule_config(lambda one: ReduceLROnPlateau(one, monitor="val/loss"), optimizer, 0.03, lambda: 1)
    assert (found["interval"], found["monitor"]) == ("epoch", "val/loss")
