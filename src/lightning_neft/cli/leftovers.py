"""Take away what a run has written that could not begin."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lightning_neft.cli.errors import explain

__all__ = ["nothing_left"]


@contextmanager
def nothing_left(trainer: L.Trainer) -> Iterator[None]:
    """Remove the folder of the loggers, if it is new, where a mistake of the user ends the run before its first step.

    Args:
        trainer: Of the run, which goes on inside of the block.
    """
    loggers = [logger for logger in trainer.loggers if isinstance(logger, (CSVLogger, TensorBoardLogger))]
    folders = {Path(logger.log_dir) for logger in loggers if trainer.is_global_zero}
    new = [path for folder in folders for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except Exception as error:
        if trainer.global_step == 0 and explain(error) is not None:
            for folder in folders.intersection(new):
                # Another run may have taken the same number meanwhile, and be further.
                if not (folder / "checkpoints").exists():
                    shutil.rmtree(folder, ignore_errors=True)
            for path in new:
                with suppress(OSError):  # not empty: not ours alone
                    path.rmdir()
        raise
