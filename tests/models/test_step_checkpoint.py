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
