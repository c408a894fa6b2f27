"""Where Lightning 2.6 takes an epoch for another one after a resume: one that was over, or one that was broken off."""

from __future__ import annotations

from typing import Any

import lightning as L

__all__ = ["leave_finished_epoch", "reopen_broken_off_epoch"]


def leave_finished_epoch(trainer: L.Trainer) -> None:
    """Begin a new epoch if the resumed one had ended, where Lightning 2.6 would go on with it or end it once more.

    - A checkpoint of an epoch's last batch: the epoch after it is not counted, so that from a checkpoint in that one a
      further resume would begin it anew; and without a length of the loader its batches are counted as the old one's.
    - A checkpoint of an epoch's end, with trainer.max_steps: the epoch ends twice, and the data of the next one are
      never seen.

    Loggers continue with the next step. Where only the validation after the epoch was still to come, Lightning does the
    right thing. To be called after the loops were reset and before the epoch begins, as in on_train_start.

    Args:
        trainer: The Trainer; nothing is done if it has not just been resumed.
    """
    loop = trainer.fit_loop
    batches = loop.epoch_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
        # The loggers' step is that of the epoch's end already, and Lightning counts it once more.
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
    """Take an epoch for unfinished that trainer.max_steps or max_time ended, which Lightning counts as a whole one.

    The resumed run would leave out the rest of its data, or stop an epoch too early.

    Args:
        checkpoint: What was loaded; changed in place, before Lightning restores its loops from it.
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
