"""A checkpoint at a signal: whole, and beside those of other runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_neft.callbacks.signals import StopOnSignal, StoppedBySignal
from tiny import Tuned, llama, loader, trainer


class Asks(L.Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)


class InPlace(TorchCheckpointIO):
    """Writes as Lightning does between two file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)


def stopped(saving: ModelCheckpoint, **options: Any) -> Path:
    run = trainer(callbacks=[Asks(), StopOnSignal(), saving], enable_checkpointing=True, **options)
    with pytest.raises(StoppedBySignal) as stop:
        run.fit(Tuned(llama()), loader())
    return Path(stop.value.checkpoint)


def step(path: Path) -> int:
    found: int = torch.load(path, weights_only=True)["global_step"]
    return found


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_last_checkpoint_of_another_run_stays(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_text("of another run")
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True, save_weights_only=True)
    assert stopped(saving) == tmp_path / "last-v1.ckpt"
    assert (tmp_path / "last.ckpt").read_text() == "of another run"
    # With all that a run resumes from.
    assert "optimizer_states" in torch.load(tmp_path / "last-v1.ckpt", weights_only=True)
    assert (saving.save_last, saving.save_weights_only) == (True, True)


def test_the_best_checkpoint_is_not_written_through_a_link(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_last="link")
    last = stopped(saving, plugins=[InPlace()])
    assert (last.name, last.is_symlink(), step(last)) == ("last.ckpt", False, 2)
    assert step(tmp_path / "step=1.ckpt") == 1
