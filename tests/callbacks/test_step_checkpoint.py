"""Which steps are saved: the last one always, the best of those that were validated, none in the middle of a step."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
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
def test_validations_wait_for_the_end_of_an_optimiser_step(every: float, batches: int, expected: list[int]) -> None:
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


class Scored(Tuned):
    """Its held-out loss is what `losses` says of the step, by default less at each step; keeps the validated steps."""

    def __init__(self, losses: dict[int, float] | None = None) -> None:
        super().__init__(llama())
        self.losses = losses or {}
        self.validated: list[int] = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        step = self.trainer.global_step
        if not self.trainer.sanity_checking:
            self.validated.append(step)
        self.log("val/loss", self.losses.get(step, 100.0 - step))


class StopAt(L.Callback):
    """Asks the Trainer to stop after a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            trainer.should_stop = True


class Stream(IterableDataset):
    """Samples without a length."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        yield from (Samples(8)[index] for index in range(8))


def run(folder: Path, module: Tuned, data: Any = None, **options: Any) -> tuple[StepCheckpoint, L.Trainer]:
    """Fit on 8 batches an epoch."""
    more, saving = options.pop("callbacks", []), options.pop("checkpoint", {})
    ckpt_path = options.pop("ckpt_path", None)
    checkpoint = StepCheckpoint(
        **{"dirpath": folder, "filename": "best-{step}", "monitor": "val/loss", "save_last": True, **saving}
    )
    fitted = trainer(**{"max_steps": -1, "enable_checkpointing": True, **options}, callbacks=[*more, checkpoint])
    loaded = DataLoader(Samples(8) if data is None else data)
    fitted.fit(module, loaded, DataLoader(Samples(1)), ckpt_path=ckpt_path, weights_only=True)
    return checkpoint, fitted


def steps_of(folder: Path) -> dict[str, int]:
    return {path.name: torch.load(path, weights_only=True)["global_step"] for path in folder.glob("*.ckpt")}


ENDS: dict[str, tuple[dict[str, Any], int]] = {
    "max_steps in an epoch": ({"max_steps": 11}, 11),
    "max_steps at a validation": ({"max_steps": 8}, 8),
    "max_epochs, validation by batches": ({"max_epochs": 2, "val_check_interval": 3}, 16),
    "max_epochs, validation every second epoch": ({"max_epochs": 3, "check_val_every_n_epoch": 2}, 24),
    "max_steps, validation every second epoch": ({"max_steps": 5, "check_val_every_n_epoch": 2}, 5),
    "max_steps, validation by time": ({"max_steps": 5, "val_check_interval": timedelta(days=1)}, 5),
    "max_steps, validation over epochs": (
        {"max_steps": 11, "check_val_every_n_epoch": None, "val_check_interval": 9},
        11,
    ),
    "a stop": ({"max_epochs": 3, "callbacks": [StopAt(11)]}, 11),
    "a stop, validation every second epoch": (
        {"max_epochs": 3, "check_val_every_n_epoch": 2, "callbacks": [StopAt(11)]},
        11,
    ),
    "a stop in the middle of a step": ({"max_epochs": 3, "accumulate_grad_batches": 3, "callbacks": [StopAt(4)]}, 2),
    "a stream": ({"max_steps": 5, "data": Stream()}, 5),
    "steps in addition": ({"max_steps": 11, "checkpoint": {"every_n_train_steps": 4}}, 11),
    "no data to validate on": ({"max_steps": 11, "limit_val_batches": 0}, 11),
}


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
@pytest.mark.parametrize("name", ENDS)
def test_the_last_step_of_a_fit_is_validated_and_saved(tmp_path: Path, name: str) -> None:
    options, last = ENDS[name]
    module = Scored()
    _, fitted = run(tmp_path, module, **options)
    assert fitted.global_step == last
    if "limit_val_batches" in options:
        assert steps_of(tmp_path) == {"last.ckpt": last}
    else:
        assert module.validated[-1] == last
        assert len(set(module.validated)) == len(module.validated)
        assert steps_of(tmp_path) == {f"best-step={last}.ckpt": last, "last.ckpt": last}
    # What was changed for the last validation is as it was.
    every = options.get("check_val_every_n_epoch", 1)
    assert (fitted.check_val_every_n_epoch, fitted.val_check_batch == 1) == (every, False)
    assert (fitted._val_check_time_interval is None) == ("time" not in name)


def test_the_best_step_stays_the_best_and_the_last_is_saved(tmp_path: Path) -> None:
    checkpoint, _ = run(tmp_path, Scored({8: 1.0}), max_steps=19)
    assert steps_of(tmp_path) == {"best-step=8.ckpt": 8, "last.ckpt": 19}
    assert Path(checkpoint.best_model_path).name == "best-step=8.ckpt"


def test_a_link_is_to_a_file_of_the_last_step(tmp_path: Path) -> None:
    run(tmp_path, Scored({8: 1.0}), max_steps=19, checkpoint={"save_last": "link"})
    assert steps_of(tmp_path) == {"best-step=8.ckpt": 8, "last.ckpt": 19}
    run(tmp_path / "falling", Scored(), max_steps=11, checkpoint={"save_last": "link"})
    assert steps_of(tmp_path / "falling") == {"best-step=11.ckpt": 11, "last.ckpt": 11}
    assert (tmp_path / "falling/last.ckpt").is_symlink()


def test_files_of_steps_without_validation_have_no_rank(tmp_path: Path) -> None:
    saving = {"every_n_train_steps": 3, "save_top_k": -1}
    checkpoint, _ = run(tmp_path, Scored({8: 1.0, 16: 2.0}), max_epochs=2, checkpoint=saving)
    kept = {f"best-step={step}.ckpt": step for step in (3, 6, 8, 9, 12, 15, 16)}
    assert steps_of(tmp_path) == {**kept, "last.ckpt": 16}
    assert sorted(Path(name).name for name in checkpoint.best_k_models) == ["best-step=16.ckpt", "best-step=8.ckpt"]
    assert Path(checkpoint.best_model_path).name == "best-step=8.ckpt"


def test_steps_before_the_first_validation_can_be_resumed_from(tmp_path: Path) -> None:
    class Stopped(Exception): ...

    class RaiseAt(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 7:
                raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path, Scored(), max_epochs=1, checkpoint={"every_n_train_steps": 3}, callbacks=[RaiseAt()])
    assert steps_of(tmp_path) == {"last.ckpt": 6}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_never_the_best(tmp_path: Path, loss: float) -> None:
    run(tmp_path, Scored({8: loss, 16: 3.0}), max_epochs=2)
    assert steps_of(tmp_path) == {"best-step=16.ckpt": 16, "last.ckpt": 16}
    only, _ = run(tmp_path / "only", Scored({8: loss}), max_epochs=1)
    assert steps_of(tmp_path / "only") == {"last.ckpt": 8}
    assert only.best_model_path == ""


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_resumed_run_ranks_with_the_best_of_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded paths are relative to a folder in which another run has files of the same names."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run(Path("c"), Scored({8: 1.0 if name == "one" else 0.5}), max_steps=12)
        assert steps_of(Path("c")) == {"best-step=8.ckpt": 8, "last.ckpt": 12}
    monkeypatch.chdir(tmp_path / "other")
    resumed, _ = run(Path("r"), Scored(), max_steps=14, ckpt_path="../one/c/last.ckpt")
    assert resumed.best_model_path == "../one/c/best-step=8.ckpt"
    # Moved alone, into the folder of the other run.
    (tmp_path / "one/c/last.ckpt").rename("c/moved.ckpt")
    moved, _ = run(Path("m"), Scored(), max_steps=14, ckpt_path="c/moved.ckpt")
    assert moved.best_model_path == str(Path("m/best-step=14.ckpt").absolute())
    assert steps_of(Path("c")) == {"best-step=8.ckpt": 8, "last.ckpt": 12, "moved.ckpt": 12}


def test_a_training_metric_ranks_steps_without_validation(tmp_path: Path) -> None:
    class Logs(Scored):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            self.log("train/loss", 1.0 if self.trainer.global_step == 2 else 5.0)
            return super().training_step(batch, batch_idx)

    run(tmp_path, Logs(), max_steps=6, checkpoint={"monitor": "train/loss", "every_n_train_steps": 1})
    assert steps_of(tmp_path) == {"best-step=3.ckpt": 3, "last.ckpt": 6}


def test_a_validation_after_saving_makes_its_step_the_best(tmp_path: Path) -> None:
    class Stops(Scored):
        def on_train_batch_end(self, *_: Any) -> None:  # after the callbacks
            self.trainer.should_stop |= self.trainer.global_step == 11

    run(tmp_path, Stops(), max_epochs=3, checkpoint={"every_n_train_steps": 11})
    assert steps_of(tmp_path) == {"best-step=11.ckpt": 11, "last.ckpt": 11}
