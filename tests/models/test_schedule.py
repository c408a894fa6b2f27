"""The schedule against that of transformers."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from lightning_neft.models.optimizer import cosine_with_warmup


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)` before:UserWarning")
@pytest.mark.parametrize(("total", "ratio"), [(100, 0.03), (7, 0.5), (20, 0.0), (1, 0.03), (3, 1.0)])
def test_it_is_the_schedule_of_transformers(total: int, ratio: float) -> None:
    def rates(make) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        schedule = make(optimizer)
        found = []
        for _ in range(total + 2):
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        return found

    theirs = rates(lambda optimizer: get_cosine_schedule_with_warmup(optimizer, math.ceil(ratio * total), total))
    assert rates(lambda optimizer: cosine_with_warmup(optimizer, ratio, lambda: total)) == pytest.approx(theirs)


def test_the_length_is_not_asked_for_before_the_first_step() -> None:
    asked: list[int] = []
    schedule = cosine_with_warmup(torch.optim.SGD([torch.zeros(1)], lr=0.1), 0.5, lambda: asked.append(1) or 10)
    assert asked == []
    schedule.optimizer.step()
    schedule.step()
    schedule.step()
    assert asked == [1]
