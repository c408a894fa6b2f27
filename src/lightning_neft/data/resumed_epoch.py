"""Corrections of Lightning 2.6 on a resume: an epoch that had finished, and one that was cut short."""

from __future__ import annotations

from typing import Any

import lightning as L

__all__ = ["leave_finished_epoch", "reopen_broken_off_epoch"]


def leave_finished_epoch(trainer: L.Trainer) -> None:
    """Start a new epoch if the resumed one had finished, which Lightning 2.6 would continue or finish again.

    - A checkpoint of an epoch's last batch: the next epoch is not counted, so a second resume, from a checkpoint in
      that epoch, would restart it; and without a length of the loader its batches are added to those of the old epoch.
    - A checkpoint of an epoch's end, with trainer.max_steps: the epoch finishes twice, and the data of the next one are
      skipped.

    Loggers continue with the next step. Where only the validation after the epoch was missing, Lightning is right. Call
    this after the loops are reset and before the epoch begins, as in on_train_start.

    Args:
        trainer: The Trainer; unchanged unless it has just been resumed.
    """
    loop = trainer.fit_loop
    batches = loop.epoch_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
        # The loggers' step is already that of the epoch's end, and Lightning counts it again.
        batches._batches_that_stepped -= 1
    elif batches.restarted_on_train_batch_end and batches.batch_progress.is_last_batch:
        batches.batch_progress.increment_completed()
    else:
        return
    loop.reset_restart_stage()
    batches.reset_restart_stage()
    batches.batch_progress.reset_on_run()
    batches.scheduler_progress.reset_on_run()
    batches.automatic_optimization.optim_progress.reset_on_run()
    batches.val_loop.batch_progress.total.reset()


def reopen_broken_off_epoch(checkpoint: dict[str, Any]) -> None:
    """Mark an epoch as unfinished that trainer.max_steps or max_time cut short, which Lightning counts as finished.

    Otherwise the resumed run would skip the rest of its data, or stop an epoch too early.

    Args:
        checkpoint: The loaded checkpoint; changed in place, before Lightning restores its loops from it.
    """
    loops = checkpoint.get("loops", {}).get("fit_loop")
    if loops is None:  # weights alone
        return
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    is_counted = epochs["current"]["completed"] == epochs["current"]["ready"]
    if is_counted and batches["current"]["completed"] > 0 and not batches["is_last_batch"]:
        for count in (epochs["total"], epochs["current"]):
            count["processed"] -= 1
            count["completed"] -= 1
