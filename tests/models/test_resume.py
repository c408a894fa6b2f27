"""A run that goes on from a checkpoint ends with the very weights of the unbroken run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_neft import NEFTune
from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
from lightning_neft.callbacks.step_seed import StepSeed
from lightning_neft.data.module import TextData
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.optimizer import build_optimizer

BY_STEPS = {"max_steps": 6, "max_epochs": -1}
# 5 batches an epoch, an optimiser step every 2 of them: 3 steps an epoch.
TRIGGERS = {
    "each step": ({"every_n_train_steps": 1}, {}, {1: 8, 2: 6, 3: 5, 4: 3, 5: 1, 6: 0}),
    "validation in an epoch": ({}, {"val_check_interval": 2}, {1: 8, 2: 6, 4: 3, 5: 1}),
    "validation after an epoch": ({}, {}, {3: 5, 6: 0}),
    "end of an epoch": ({"save_on_train_epoch_end": True}, {}, {3: 5, 6: 0}),
    # With a number of steps Lightning goes on otherwise.
    "end of an epoch, by steps": ({"save_on_train_epoch_end": True}, BY_STEPS, {3: 5, 6: 0}),
    "each step, by steps": ({"every_n_train_steps": 1}, BY_STEPS, {1: 8, 2: 6, 3: 5, 4: 3, 5: 1, 6: 0}),
}


def fit(
    base: str, source: str, folder: Path, workers: int, trigger: str, **options: Any
) -> tuple[CausalLM, list[list[list[int]]]]:
    """Return the model and the batches that it was trained on."""
    seen: list[list[list[int]]] = []

    class Watched(CausalLM):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            seen.append(batch["input_ids"].tolist())
            return super().training_step(batch, batch_idx)

    L.seed_everything(1)
    model = Watched(base, learning_rate=0.05)  # with dropout in its attention
    checkpoint, trainer_options, _ = TRIGGERS[trigger]
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 2,
        "accumulate_grad_batches": 2,
    }
    callbacks = [StepSeed(), NEFTune(alpha=5), ModelCheckpoint(folder, "{step}", save_top_k=-1, **checkpoint)]
    trainer = L.Trainer(callbacks=callbacks, **{**defaults, **trainer_options})
    data = TextData(source, base, batch_size=2, val_size=1, num_workers=workers)
    trainer.fit(model, data, weights_only=True, **options)
    return model, seen


# Each resumed run writes into a folder of its own here.
@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_from_each_checkpoint(base: str, source: str, tmp_path: Path, workers: int, trigger: str) -> None:
    unbroken, batches = fit(base, source, tmp_path / "unbroken", workers, trigger)
    assert len(batches) == 10
    assert batches[:5] != batches[5:]
    left = TRIGGERS[trigger][2]
    assert {path.stem for path in (tmp_path / "unbroken").iterdir()} == {f"step={step}" for step in left}
    for step, count in left.items():
        path = tmp_path / "unbroken" / f"step={step}.ckpt"
        resumed, rest = fit(base, source, tmp_path / f"from {step}", workers, trigger, ckpt_path=path)
        assert rest == batches[10 - count :], step
        for name, value in unbroken.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), (step, name)


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("trigger", ["each step", "each step, by steps"])
def test_from_a_checkpoint_of_a_run_that_was_resumed_itself(
    base: str, source: str, tmp_path: Path, trigger: str
) -> None:
    """The first resume is at an epoch's last batch, the second one in the epoch after it."""
    unbroken, batches = fit(base, source, tmp_path / "unbroken", 0, trigger)
    fit(base, source, tmp_path / "once", 0, trigger, ckpt_path=tmp_path / "unbroken" / "step=3.ckpt")
    resumed, rest = fit(base, source, tmp_path / "twice", 0, trigger, ckpt_path=tmp_path / "once" / "step=4.ckpt")
    assert rest == batches[7:]
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def fit_to(base: str, source: str, folder: Path, **options: Any) -> tuple[dict[str, Tensor], list[Any]]:
    """Return the weights, and of each batch its ids and the steps that Lightning's loggers had counted before it."""
    seen: list[Any] = []

    class Constant(CausalLM):
        """The learning rate does not depend on the number of steps."""

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            seen.append((batch["input_ids"].tolist(), self.trainer.fit_loop.epoch_loop._batches_that_stepped))
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            return build_optimizer(self.model, "adamw_torch", 0.01, 0.0)

    L.seed_everything(1)
    ckpt_path = options.pop("ckpt_path", None)
    trainer = L.Trainer(
        callbacks=[StepSeed(), StepCheckpoint(folder, "best-{step}", monitor="val/loss", save_last=True)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=2,
        **options,
    )
    model = Constant(base)
    trainer.fit(model, TextData(source, base, batch_size=2, val_size=1), ckpt_path=ckpt_path, weights_only=True)
    return model.state_dict(), seen


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
@pytest.mark.parametrize(
    "schedule",
    [{}, {"val_check_interval": 2}, {"check_val_every_n_epoch": 2}, {"limit_val_batches": 0}],
    ids=["each epoch", "in the epoch", "each second epoch", "never"],
)
def test_from_where_a_limit_ended_a_run(base: str, source: str, tmp_path: Path, schedule: dict[str, Any]) -> None:
    unbroken, batches = fit_to(base, source, tmp_path / "unbroken", max_steps=6, **schedule)
    ends: list[tuple[int, dict[str, int]]] = [(step, {"max_steps": step}) for step in range(1, 6)]
    for step, end in [*ends, (3, {"max_epochs": 1})]:
        folder = tmp_path / f"{step} {end}"
        _, first = fit_to(base, source, folder, **end, **schedule)
        assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == step
        resumed, rest = fit_to(
            base, source, folder / "resumed", max_steps=6, ckpt_path=folder / "last.ckpt", **schedule
        )
        assert [*first, *rest] == batches, end
        assert [name for name, value in unbroken.items() if not torch.equal(value, resumed[name])] == [], end
