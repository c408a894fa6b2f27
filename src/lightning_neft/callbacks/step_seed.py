"""`StepSeed`: dropout as a pure function of seed, rank and training batch, so that runs resume exactly."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
import torch
from typing_extensions import override

from lightning_neft.common.trainer import data_parallel_rank
from lightning_neft.errors import ConfigError
from lightning_neft.noise.functional import mix_seed

__all__ = ["StepSeed"]

# Separates these seeds from those of the noise, which are mixed from the same numbers.
_DROPOUT = 0x64726F706F7574


class StepSeed(pl.Callback):
    """Seeds PyTorch's random generators before each training batch from (seed, data-parallel rank, batch number).

    Dropout then needs no state in a checkpoint: a resumed run draws the masks of the uninterrupted run, whatever was
    drawn in between. Each data-parallel rank has its own masks; ranks that share one copy of the model have the same.
    Put it before other callbacks that draw random numbers.

    Args:
        seed: The seed; None takes that of `seed_everything`, or 0 without one.

    Raises:
        ConfigError: If the seed is not an integer.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[StepSeed()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise ConfigError(f"seed={seed!r}: use an integer.")
        self.seed = seed

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed
        # Completed, not started: a resumed run repeats a batch that an exception interrupted.
        completed = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        # Nothing waits: the seeds of devices are set on the CPU, too.
        torch.manual_seed(mix_seed(_DROPOUT, seed, data_parallel_rank(trainer), completed))
