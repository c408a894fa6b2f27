"""`StepCheckpoint`: checkpoints between optimiser steps; `last` has the last step, `best` a validated one."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from lightning_neft.errors import ModelError
from lightning_neft.saving.checkpoints import checkpoint_entries

__all__ = ["StepCheckpoint", "main_checkpoint"]

# The Trainer's attributes that decide when to validate. The last one is private: a test fails if it is renamed.
_SCHEDULE = ("check_val_every_n_epoch", "val_check_batch", "_val_check_time_interval")


def main_checkpoint(trainer: pl.Trainer) -> ModelCheckpoint | None:
    """Return the callback that writes the run's checkpoints; None if there is none.

    Lightning's `Trainer.checkpoint_callback` is the first of any kind, such as a user's `OnExceptionCheckpoint`.
    """
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    return next((callback for callback in found if isinstance(callback, StepCheckpoint)), found[0] if found else None)


class StepCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint` with other times of saving, so that no step of a fit is lost or misnamed.

    - The last step of a fit is validated and saved, whether `max_steps`, `max_epochs`, `max_time` or an early stop ends
      it. Lightning validates and saves on its schedule only.
    - `last` is written every time, also if the monitored value is not among the best.
    - The best checkpoints have a finite monitored value that was measured at their own step.
    - `every_n_train_steps` and `train_time_interval` save in addition to the validations, not instead of them: `last`,
      and with `save_top_k=-1` one file each time. Without a monitor they alone decide what is saved, as in Lightning.
    - Nothing is saved within an optimiser step, whose accumulated gradients would be lost: a stop by `max_time` and a
      validation within an epoch wait for the end of the step. The latter prints a notice. Validations by time
      (`val_check_interval` as a time) do not wait: with accumulated gradients, a run that resumes from one skips the
      batches that its step had seen, so it is not exact.
    - A resumed run keeps the ranking if the best checkpoint is in the folder of the one that it resumes from, and
      starts a new ranking otherwise.

    >>> checkpoint = StepCheckpoint(every_n_train_steps=100)
    """

    # Set on the instance: without an __init__ the options are Lightning's.
    _measured: tuple[int, float | None] = (-1, None)
    _saved: tuple[int, int] = (-1, -1)
    _schedule: dict[str, Any] | None = None
    _is_extra = False
    _stops_after_step = False
    _resumed_from: Path | None = None

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        given = str(trainer.ckpt_path)
        self._resumed_from = None if "://" in given else Path(given)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        path = self._resumed_from
        if path is None:
            return
        # The recorded paths may be relative to another folder, or the files moved; only the names are reliable.
        is_same_folder = self.dirpath is not None and Path(self.dirpath).absolute() == path.absolute().parent
        folder = Path(self.dirpath or "") if is_same_folder else path.parent
        last = state_dict.get("last_model_path")
        self.last_model_path = str(folder / Path(last).name) if is_same_folder and last else str(path)
        found = {str(folder / Path(name).name): score for name, score in state_dict.get("best_k_models", {}).items()}
        found = {name: score for name, score in found.items() if self._is_of_score(Path(name), score)}
        name, best = Path(state_dict["best_model_path"]).name, str(folder / Path(state_dict["best_model_path"]).name)
        if best not in found:
            if found or state_dict.get("best_k_models"):
                rank_zero_info(
                    f"the best checkpoint so far, {name}, is not in {folder}: this run ranks its own validations only"
                )
            return
        self.best_k_models, self.best_model_path, self.best_model_score = found, best, found[best]
        if len(found) == self.save_top_k:
            worst = max if self.mode == "min" else min
            self.kth_best_model_path = worst(found, key=lambda one: found[one].item())
            self.kth_value = found[self.kth_best_model_path]

    def _is_of_score(self, path: Path, score: Tensor) -> bool:
        """Return whether a checkpoint exists and was saved with this monitored value, so by this run."""
        try:
            states = checkpoint_entries(path).get("callbacks", {})
        except (ModelError, OSError):
            return False
        kept = states.get(self.state_key, {}).get("current_score")
        return kept is not None and float(kept) == float(score)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._measured, self._saved, self._stops_after_step = (-1, None), (-1, -1), False
        every, accumulated = trainer.val_check_batch, trainer.accumulate_grad_batches
        batches = trainer.num_training_batches
        if every is None or every >= batches or every % accumulated == 0 or not trainer.enable_validation:
            return
        # The last optimiser step of an epoch may be shorter.
        moved = min(every + accumulated - every % accumulated, batches)
        rank_zero_info(
            f"validation after {moved:g} batches, not {every}: an optimiser step of {accumulated} batches ends there"
        )
        trainer.val_check_batch = moved

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop._should_accumulate():
            self._stops_after_step |= trainer.should_stop
            trainer.should_stop = False
            return
        trainer.should_stop |= self._stops_after_step
        self._stops_after_step = False
        if self._skips(trainer):
            return
        ends = _ends(trainer)
        can_validate, comes_by_itself = _can_validate(trainer), _validates(trainer)
        if ends and can_validate and not comes_by_itself:
            self._schedule = {name: getattr(trainer, name) for name in _SCHEDULE}
            for name, value in zip(_SCHEDULE, (1, 1, None), strict=True):
                setattr(trainer, name, value)
        is_due, validates = self._is_due(trainer), can_validate and (ends or comes_by_itself)
        if validates and self.monitor is not None:
            # Once, after the validation has measured the step.
            self._defer_save_until_validation = is_due
        elif is_due or (ends and not validates):
            self._save(trainer, ranks=True)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._is_extra = self._schedule is not None or not _validates_by_schedule(trainer)
            self._put_schedule_back(trainer)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._skips(trainer):
            return
        value = None if self.monitor is None else trainer.callback_metrics.get(self.monitor)
        self._measured = (trainer.global_step, None if value is None else float(value))
        ends, is_epoch_end = _ends(trainer), trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        is_due, self._defer_save_until_validation = self._defer_save_until_validation or ends, False
        # A checkpoint at the end of an epoch resumes exactly if it is saved after the epoch, or on the schedule.
        if is_epoch_end and (self._is_extra or self._should_save_on_train_epoch_end(trainer)):
            return
        if not is_due and (self._should_save_on_train_epoch_end(trainer) or not self._is_due_epoch(trainer)):
            return
        batches = trainer.fit_loop.epoch_loop
        # Lightning counts the step after the validation. A resumed run makes up for that only if its schedule has the
        # same validation, which it then skips.
        batches._batches_that_stepped += self._is_extra
        self._save(trainer, ranks=self._every_n_epochs >= 1 or self.monitor is not None or ends)
        batches._batches_that_stepped -= self._is_extra

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._skips(trainer):
            return
        if self._every_n_epochs >= 1:
            is_due = self._is_due_epoch(trainer)
        else:
            is_due = self.monitor is not None and self._measured[0] == trainer.global_step
        is_due = is_due and self._should_save_on_train_epoch_end(trainer)
        is_due = is_due and trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        if is_due or _ends(trainer, after_epoch=True):
            self._save(trainer, ranks=True)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not Lightning's method, which saves here, from where no run resumes exactly.
        self._put_schedule_back(trainer)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._put_schedule_back(trainer)
        super().on_exception(trainer, pl_module, exception)

    def _put_schedule_back(self, trainer: pl.Trainer) -> None:
        for name, value in (self._schedule or {}).items():
            setattr(trainer, name, value)
        self._schedule = None

    def _skips(self, trainer: pl.Trainer) -> bool:
        return bool(
            trainer.fast_dev_run  # type: ignore[attr-defined]
            or trainer.state.fn != TrainerFn.FITTING
            or trainer.sanity_checking
            or trainer.global_step == 0
        )

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether this step is saved by number of steps or by time."""
        if self._every_n_train_steps >= 1 and trainer.global_step % self._every_n_train_steps == 0:
            return True
        if self._train_time_interval is None:
            return False
        since, now = self._last_time_checked, time.monotonic()
        is_due = since is not None and now - since >= self._train_time_interval.total_seconds()
        # The ranks' clocks differ.
        is_due = bool(trainer.strategy.broadcast(is_due))
        if is_due:
            self._last_time_checked = now
        return is_due

    def _is_due_epoch(self, trainer: pl.Trainer) -> bool:
        # 0: steps or time are set, and save in addition.
        return self._every_n_epochs < 1 or (trainer.current_epoch + 1) % self._every_n_epochs == 0

    def _save(self, trainer: pl.Trainer, ranks: bool) -> None:
        """Write `last` and, before it, a file to keep if there is one, unless both have this validation already.

        Args:
            trainer: The Trainer, at a point that a run can resume from.
            ranks: Whether this step may be one of the best or, without a monitor, one of those that are kept.
        """
        # Without a monitor a validation changes nothing in a checkpoint.
        now = (trainer.global_step, -1 if self.monitor is None else self._measured[0])
        if self._saved == now:
            return
        self._saved = now
        candidates = self._monitor_candidates(trainer)
        if ranks and self._is_measured(trainer, candidates):
            self._save_topk_checkpoint(trainer, candidates)
        elif ranks and self.save_top_k == -1 and self._measured[0] != trainer.global_step:
            # All are kept; one that was not validated has no rank.
            self._save_checkpoint(trainer, self._get_metric_interpolated_filepath_name(candidates, trainer))
        self._save_last_of_step(trainer, candidates)

    def _save_last_of_step(self, trainer: pl.Trainer, candidates: dict[str, Tensor]) -> None:
        option = self.save_last
        if option == "link" and self._last_global_step_saved != trainer.global_step:
            # This step has no file to link to, and the file must not be written through the old link.
            self.save_last = True
            if trainer.is_global_zero and Path(self.last_model_path).is_symlink():
                Path(self.last_model_path).unlink()
            trainer.strategy.barrier()
        self._save_last_checkpoint(trainer, candidates)
        self.save_last = option

    def _is_measured(self, trainer: pl.Trainer, candidates: dict[str, Tensor]) -> bool:
        """Return whether the monitored value is of this step, or there is no monitor."""
        if self.monitor is None:
            return True
        value = candidates.get(self.monitor)
        if value is None:
            # After a validation Lightning reports that it is missing. Before the first one it does not exist yet.
            return self._measured[0] >= 0 or not _can_validate(trainer)
        step, last = self._measured
        # A training metric changes between two validations, a validation metric does not.
        return math.isfinite(float(value)) and (step == trainer.global_step or float(value) != last)


def _ends(trainer: pl.Trainer, after_epoch: bool = False) -> bool:
    """Return whether the fit ends with this optimiser step.

    Args:
        trainer: The Trainer, at the end of the step.
        after_epoch: Whether the epoch has been counted already.
    """
    loop = trainer.fit_loop
    epochs: int = loop.epoch_progress.current.processed  # type: ignore[attr-defined]
    if not after_epoch and loop.epoch_loop._num_ready_batches_reached():
        epochs += 1
    limits = ((trainer.global_step, trainer.max_steps), (epochs, trainer.max_epochs))
    is_reached = any(most not in (None, -1) and done >= most for done, most in limits)
    return is_reached or (trainer.should_stop and loop._can_stop_early)


def _can_validate(trainer: pl.Trainer) -> bool:
    """Return whether there is a validation set."""
    if not trainer.enable_validation:
        return False
    if trainer.val_dataloaders is None:
        # As Lightning does at the start if the first epoch is validated.
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
        trainer.training = True
    return sum(trainer.num_val_batches) > 0


def _validates(trainer: pl.Trainer) -> bool:
    """Return whether Lightning validates after this batch."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    return bool(trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher))


def _validates_by_schedule(trainer: pl.Trainer) -> bool:
    """Return whether a run that resumes from this batch has the same validation on its schedule."""
    if trainer._val_check_time_interval is not None:  # type: ignore[attr-defined]
        return False
    stop, trainer.should_stop = trainer.should_stop, False
    try:
        return _validates(trainer)
    finally:
        trainer.should_stop = stop
