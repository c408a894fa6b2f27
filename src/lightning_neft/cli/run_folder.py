"""The folder `version_N` of a run: no other run's, and gone again if the run could not begin."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lightning_neft.cli.errors import explain

__all__ = ["own_folder", "usual_loggers"]


class _NumberedLog(CSVLogger):
    """Of the two usual loggers the one that looks up the number, in a class of its own to tell them from a user's."""


def usual_loggers(root: str, name: str) -> tuple[CSVLogger, TensorBoardLogger]:
    """Return the loggers of a run for which the user has not chosen any, with the next number that is free now.

    Args:
        root: Folder of all runs.
        name: Of the run's folder in it, in which each run has one `version_N`.
    """
    csv = _NumberedLog(root, name=name)
    return csv, TensorBoardLogger(root, name=name, version=csv.version)


@contextmanager
def own_folder(trainer: L.Trainer) -> Iterator[None]:
    """Make the folder of the usual loggers, and remove it if a mistake of the user ends the run before its first step.

    Runs that start at the same moment find the same number free. One of them can make the folder; the others get
    loggers with the next number.

    Args:
        trainer: Of the run, which goes on inside of the block.
    """
    loggers = [logger for logger in trainer.loggers if isinstance(logger, (CSVLogger, TensorBoardLogger))]
    if not trainer.is_global_zero:
        loggers.clear()
    above = [path for logger in loggers for path in _with_parents(logger.root_dir) if not path.exists()]
    new = [path for logger in loggers if not (path := Path(logger.log_dir)).exists()]
    try:
        if loggers and isinstance(trainer.logger, _NumberedLog) and "://" not in trainer.logger.save_dir:
            new = [_claim(trainer, trainer.logger)]
        yield
    except Exception as error:
        if trainer.global_step == 0 and explain(error) is not None:
            for folder in new:
                # Of a logger that the user has chosen another run may have taken the folder meanwhile, and be further.
                if not (folder / "checkpoints").exists():
                    shutil.rmtree(folder, ignore_errors=True)
            for path in above:
                with suppress(OSError):  # not empty: not ours alone
                    path.rmdir()
        raise


def _with_parents(folder: str) -> Iterator[Path]:
    yield Path(folder)
    yield from Path(folder).parents


def _claim(trainer: L.Trainer, log: CSVLogger) -> Path:
    """Make the folder of a run and return it; the Trainer's loggers are then those of that folder."""
    while True:
        folder = Path(log.log_dir)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():
                raise
        else:
            return folder
        log, board = usual_loggers(log.save_dir, log.name)
        trainer.loggers = [log, board]
