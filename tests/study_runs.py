"""Callbacks for the arms of a study in tests: they end things at a chosen arm and batch."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import lightning as L

from forked import Forked
from lightning_neft.callback import NEFTune
from lightning_neft.cli.main import main


class AtArm(L.Callback):
    """Does something at the start of a training batch of the arm of one alpha; once, if it is told a marker.

    Args:
        alpha: Of the arm.
        batch: Number of the batch.
        what: `raise`, or the name of a signal for `who`.
        who: `worker` or `arm`.
        marker: File that is made then, and in whose presence nothing is done.
    """

    def __init__(self, alpha: float, batch: int, what: str, who: str = "worker", marker: str | None = None) -> None:
        self.alpha, self.batch, self.what, self.who, self.marker = alpha, batch, what, who, marker

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        (noise,) = [one for one in trainer.callbacks if isinstance(one, NEFTune)]
        if noise.noise.alpha != self.alpha or trainer.fit_loop.total_batch_idx != self.batch:
            return
        if self.marker is not None:
            if Path(self.marker).exists():
                return
            Path(self.marker).touch()
        if self.what == "raise":
            raise RuntimeError("out of paper\nand of ink")
        worker = multiprocessing.parent_process()
        os.kill(worker.pid if self.who == "worker" else os.getpid(), signal.Signals[self.what])


def at_arm(**options: object) -> list[str]:
    """Return the options of the program that put it there."""
    return ["--trainer.callbacks+=study_runs.AtArm", *(f"--trainer.callbacks.{k}={v}" for k, v in options.items())]


def two_workers(args: list[str], folder: Path) -> list[str]:
    """Return what each of two workers printed that began the same study at the same moment."""
    logs = [folder / f"worker-{number}.log" for number in range(2)]
    workers = [Forked(partial(main, ["study", *args]), log) for log in logs]
    codes = [worker.wait(400) for worker in workers]
    for worker in workers:
        worker.send(9)
    printed = [log.read_text() for log in logs]
    assert codes == [0, 0], "\n".join(text[-3000:] for text in printed)
    return printed
