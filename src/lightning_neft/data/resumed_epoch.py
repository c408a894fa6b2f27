"""Where Lightning goes on with an epoch that was over when the checkpoint was saved."""

from __future__ import annotations

import lightning as L

__all__ = ["leave_finished_epoch"]


def leave_finished_epoch(trainer: L.Trainer) -> None:
    """Begin a new epoch if the resumed one had ended, which Lightning does not see of a loader without a length.

    From a checkpoint of an epoch's last batch it would go on to count the batches of that epoch, so that its optimiser
    steps would end elsewhere than in the unbroken run; from one of the epoch's end it would end the epoch once more, if
    trainer.max_steps is set. Where only the validation after the epoch was still to come, it does the right thing.

    To be called after the loops were reset and before the epoch begins, as Lightning calls `set_epoch`.

    Args:
        trainer: The Trainer; nothing is done if it has not just been resumed.
    """
    loop = trainer.fit_loop
    batches = loop.epoch_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
    elif batches.restarted_on_train_batch_end and batches.batch_progress.is_last_batch:
        batches.batch_progress.increment_completed()
        batches.reset_restart_stage()
    else:
        return
    loop.reset_restart_stage()
    batches.batch_progress.reset_on_run()
    batches.scheduler_progress.reset_on_run()
    batches.automatic_optimization.optim_progress.reset_on_run()
    batches.val_loop.batch_progress.total.reset()
