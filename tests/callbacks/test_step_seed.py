"""Dropout as a function of seed, rank and batch: runs that stop and go on are the unbroken one, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_neft import NEFTune
from lightning_neft.callbacks.step_seed import StepSeed
from lightning_neft.errors import ConfigError
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.trainable import LoraOptions
from models.words import batch, fit


class Drawing(CausalLM):
    """Keeps a number drawn in each training step."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.drawn: list[float] = []

    def training_step(self, given: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(given, batch_idx)
        self.drawn.append(torch.rand(()).item())
        return loss


def drawn(base: str, seed: int | None = None, rank: int = 0, monkeypatch: Any = None, **options: Any) -> list[float]:
    if rank:
        monkeypatch.setattr("lightning_neft.callbacks.step_seed.data_parallel_rank", lambda trainer: rank)
    module = Drawing(base)
    fit(module, 4, callbacks=[StepSeed(seed)], **options)
    return module.drawn


def test_each_batch_draws_its_own_numbers_whatever_came_before(base: str) -> None:
    first = drawn(base)
    assert len(set(first)) == 4
    torch.rand(7)
    assert drawn(base) == first


def test_the_second_epoch_draws_others_than_the_first(base: str) -> None:
    assert len(set(drawn(base, max_steps=8))) == 8


def test_seeds_and_ranks_draw_others(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [drawn(base), drawn(base, 1), drawn(base, rank=1, monkeypatch=monkeypatch)]
    assert len({number for run in runs for number in run}) == 12


def test_the_seed_is_that_of_seed_everything_by_default(base: str) -> None:
    expected = drawn(base, 5)
    L.seed_everything(5)
    assert drawn(base) == expected


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("lora", [None, LoraOptions(r=2, dropout=0.3)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resumed_runs_equal_the_unbroken_one(
    base: str, tmp_path: Path, lora: LoraOptions | None, accumulate: int
) -> None:
    def run(folder: Path, ckpt_path: Path | None = None) -> CausalLM:
        L.seed_everything(3)
        module = CausalLM(base, lora, learning_rate=0.05)
        options = {
            "accumulate_grad_batches": accumulate,
            "max_epochs": 2,
            "max_steps": -1,
            "enable_checkpointing": True,
        }
        checkpoint = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
        # Validation in between draws nothing that counts, but it might.
        validation = {"limit_val_batches": 1, "val_check_interval": 3}
        callbacks = [StepSeed(), NEFTune(alpha=5), checkpoint]
        fit(module, 6, ckpt_path=ckpt_path, callbacks=callbacks, **options, **validation)
        return module

    unbroken = run(tmp_path / "unbroken").state_dict()
    for step in (1, 2, 4, 5):
        torch.rand(step)
        resumed = run(tmp_path / f"from {step}", tmp_path / "unbroken" / f"step={step}.ckpt").state_dict()
        assert unbroken.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[name]) for name, value in unbroken.items()), step


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
def test_without_it_a_resumed_run_with_dropout_is_another_one(base: str, tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> dict[str, Tensor]:
        L.seed_everything(3)
        module = CausalLM(base, learning_rate=0.05)
        callbacks = [ModelCheckpoint(tmp_path / str(ckpt_path is None), "{step}", save_top_k=-1, every_n_train_steps=1)]
        fit(module, 6, ckpt_path=ckpt_path, callbacks=callbacks, enable_checkpointing=True)
        return module.state_dict()

    unbroken = run()
    resumed = run(tmp_path / "True" / "step=2.ckpt")
    assert any(not torch.equal(value, resumed[name]) for name, value in unbroken.items())


class Masks(CausalLM):
    """Keeps which elements the dropout in front of the adapters left in each training step."""

    def __init__(self, base: str) -> None:
        super().__init__(base, LoraOptions(r=2, dropout=0.5, target_modules=["q_proj"]))
        self.masks: list[Tensor] = []

    def on_model_built(self) -> None:
        super().on_model_built()
        for part in self.model.modules():
            if isinstance(part, nn.Dropout):
                part.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if module.training:  # the loss tries the model without dropout at the first batch
            self.masks.append(output != 0)


def test_noise_and_no_noise_see_the_same_dropout(base: str) -> None:
    runs = []
    for alpha in (0, 5):
        module = Masks(base)
        data = DataLoader([batch([9, 5], n) for n in range(3)], batch_size=None)  # type: ignore[arg-type]
        fit(module, 3, data, callbacks=[StepSeed(), NEFTune(alpha=alpha)])
        runs.append(module.masks)
    clean, noisy = runs
    assert len(clean) == len(noisy) == 6
    assert 0.3 < torch.cat([mask.flatten() for mask in clean]).float().mean() < 0.7
    assert all(torch.equal(one, other) for one, other in zip(clean, noisy, strict=True))


@pytest.mark.parametrize("seed", ["3", 1.0, True])
def test_a_seed_is_an_integer(seed: Any) -> None:
    with pytest.raises(ConfigError, match="use an integer"):
        StepSeed(seed)
