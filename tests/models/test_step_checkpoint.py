"""Checkpoints of a run that accumulates gradients stand between optimiser steps, also just after it has gone on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_neft.models.step_checkpoint import StepCheckpoint
from tiny import Samples, Tuned, llama, trainer

ACCUMULATED = 3


def batches_at_saves(checkpoint: StepCheckpoint, steps: int, ckpt_path: Path | None = None) -> list[int]:
    """Train up to a step, and return how many batches had been read at each saving."""
    found: list[int] = []
    whole = checkpoint._save_last_checkpoint

    def saving(trainer: Any, candidates: Any) -> None:
        found.append(trainer.fit_loop.total_batch_idx + 1)
        whole(trainer, candidates)

    checkpoint._save_last_checkpoint = saving  # type: ignore[method-assign]
    run = trainer(
        callbacks=[checkpoint], max_steps=steps, enable_checkpointing=True, accumulate_grad_batches=ACCUMULATED
    )
    run.fit(Tuned(llama()), StatefulDataLoader(Samples(40), batch_size=2), ckpt_path=ckpt_path, weights_only=True)
    return found


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("when", [{"every_n_train_steps": 1}, {"train_time_interval": timedelta(microseconds=1)}])
def test_nothing_is_saved_in_the_middle_of_an_optimiser_step(when: dict[str, Any], tmp_path: Path) -> None:
    def checkpoint() -> StepCheckpoint:
        return StepCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0, **when)

    assert batches_at_saves(checkpoint(), 2) == [3, 6]
    assert batches_at_saves(checkpoint(), 4, tmp_path / "last.ckpt") == [9, 12]


@pytest.mark.parametrize(
    ("every", "batches", "expected"),
    [
        (4, 12, [6, 12]),  # moved to the end of the step
        (3, 12, [3, 6, 9, 12]),
        (0.4, 12, [6, 12]),  # a share of the epoch: 4 batches
        (7, 8, [8]),  # moved to the end of the epoch, whose last step is shorter
        (1.0, 8, [8]),
    ],
)
def test_a_validation_and_what_it_saves_come_at_the_end_of_an_optimiser_step(
    every: float, batches: int, expected: list[int]
) -> None:
    found: list[int] = []

    class Validated(Tuned):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                found.append(self.trainer.fit_loop.total_batch_idx + 1)

    run = trainer(
        callbacks=[StepCheckpoint(save_top_k=0)],
        max_epochs=1,
        enable_checkpointing=True,
        accumulate_grad_batches=ACCUMULATED,
        val_check_interval=every,
        num_sanity_val_steps=0,
    )
    data = StatefulDataLoader(Samples(batches), batch_size=1)
    run.fit(Validated(llama()), data, StatefulDataLoader(Samples(1), batch_size=1))
    assert found == expected
