"""Programs that import pytorch_lightning: the callback, the mixin and the flag of their LightningCLI."""

from __future__ import annotations

import sys

import pytest
import torch

from lightning_neft import NEFTune, NEFTuneMixin
from lightning_neft.errors import DuplicateNoiseError
from tiny import llama, loader

pl = pytest.importorskip("pytorch_lightning")

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_steps": 2,
}


class Tuned(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = llama()

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return loader()


class Mixed(NEFTuneMixin, Tuned):
    def configure_callbacks(self):
        return pl.callbacks.LearningRateFinder(num_training_steps=1, update_attr=False)


def fitted(module, *callbacks):
    pl.Trainer(callbacks=list(callbacks), **QUIET).fit(module)
    return module.model.get_input_embeddings().weight.detach()


def test_both_lightning_packages_train_to_the_same_bits():
    from lightning_neft.pytorch_lightning import NEFTune as OfBoth

    noisy = fitted(Tuned(), NEFTune(alpha=50))
    assert not torch.equal(noisy, fitted(Tuned()))
    assert torch.equal(noisy, fitted(Tuned(), OfBoth(alpha=50)))
    with pytest.raises(DuplicateNoiseError):
        fitted(Tuned(), NEFTune(), OfBoth())


def test_the_mixin_stands_beside_a_callback_of_that_package():
    kinds = [type(callback) for callback in Mixed().configure_callbacks()]
    assert kinds == [pl.callbacks.LearningRateFinder, NEFTune]


# That program itself calls what jsonargparse deprecates.
@pytest.mark.filterwarnings("ignore:[\\s\\S]*eprecat")
@pytest.mark.filterwarnings("ignore:[\\s\\S]*JSONARGPARSE_DEPRECATION_WARNINGS")
def test_the_flag_of_its_program_takes_the_callback(monkeypatch):
    pl_cli = pytest.importorskip("pytorch_lightning.cli")
    flags = [f"--trainer.{key}={str(value).lower()}" for key, value in QUIET.items()]
    added = "--trainer.callbacks+=lightning_neft.pytorch_lightning.NEFTune"
    monkeypatch.setattr(sys, "argv", ["train.py", *flags, added, "--trainer.callbacks.alpha=50"])
    cli = pl_cli.LightningCLI(Tuned, run=False, save_config_callback=None, seed_everything_default=False)
    [noise] = [callback for callback in cli.trainer.callbacks if isinstance(callback, NEFTune)]
    assert noise.alpha == 50
    cli.trainer.fit(cli.model)
    assert not torch.equal(cli.model.model.get_input_embeddings().weight, fitted(Tuned()))
