"""Exact resume: a run that stops and goes on ends with the weights of the unbroken run, bit by bit."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_neft import NEFTune
from tiny import Samples, Tuned, llama, trainer


def fit(steps, folder, ckpt_path=None, alpha=5.0, **options):
    module = Tuned(llama())
    checkpoint = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    callbacks = [checkpoint] if alpha is None else [NEFTune(alpha), checkpoint]
    # 10 batches an epoch: neither 17 nor 40 steps with accumulation end where an epoch ends.
    trainer(callbacks=callbacks, max_steps=steps, enable_checkpointing=True, **options).fit(
        module, StatefulDataLoader(Samples(40), batch_size=4), ckpt_path=ckpt_path, weights_only=True
    )
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_17_steps_and_23_resumed_ones_equal_40_in_one_go(tmp_path, accumulate):
    unbroken = fit(40, tmp_path / "unbroken", accumulate_grad_batches=accumulate)
    fit(17, tmp_path / "broken", accumulate_grad_batches=accumulate)
    resumed = fit(40, tmp_path / "broken", tmp_path / "broken" / "step=17.ckpt", accumulate_grad_batches=accumulate)
    assert torch.equal(resumed, unbroken)
    clean = fit(40, tmp_path / "clean", alpha=0, accumulate_grad_batches=accumulate)
    assert not torch.equal(clean, unbroken)
    assert torch.equal(clean, fit(40, tmp_path / "none", alpha=None, accumulate_grad_batches=accumulate))


class Broken(Tuned):
    """Fails in one batch, once; its data are a function of the steps that were made, as in a run that lost none."""

    def __init__(self, batch=None):
        super().__init__(llama())
        self.batch = batch

    def on_after_batch_transfer(self, batch, dataloader_idx):
        sample = Samples(40)[self.trainer.global_step]
        return {key: value[None] for key, value in sample.items()}

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == self.batch:
            raise ZeroDivisionError("mine")
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings(r"ignore:`.fit\(ckpt_path=None\)` was called without a model")
@pytest.mark.filterwarnings("ignore:.*there is no last checkpoint available")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("batch", [3, 14])
def test_a_run_resumed_after_an_exception_repeats_its_noise(tmp_path, batch):
    """The batch that failed was begun twice and is completed once."""

    def fit(module, callbacks=(), **options):
        data = DataLoader(Samples(10), batch_size=1)
        trainer(
            callbacks=[NEFTune(5), *callbacks], max_steps=-1, max_epochs=2, enable_checkpointing=bool(callbacks)
        ).fit(module, data, **options)
        return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])

    unbroken = fit(Broken())
    with pytest.raises(ZeroDivisionError):
        fit(Broken(batch), [OnExceptionCheckpoint(tmp_path)])
    assert torch.equal(fit(Broken(), ckpt_path=tmp_path / "on_exception.ckpt", weights_only=True), unbroken)


def test_nothing_random_is_stored(tmp_path):
    fit(2, tmp_path)
    stored = torch.load(tmp_path / "step=2.ckpt", weights_only=True)
    assert not any("NEFTune" in name and state for name, state in stored["callbacks"].items())
