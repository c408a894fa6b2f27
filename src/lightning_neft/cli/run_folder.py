"""The folder `version_N` of a run: never shared with another run, removed if the run fails before its first step."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lightning_neft.callbacks.model_folder import ModelFolder
from lightning_neft.cli.errors import explain

__all__ = ["RunFolder"]

_NUMBER = re.compile(r"version_(\d+)")


class RunFolder:
    """Where a run writes its config, checkpoints, model and, unless the user has chosen loggers, its logs.

    Args:
        root: Folder of all runs.
        name: Of the run's folder in it, in which each run has one `version_N`.
    """

    def __init__(self, root: str, name: str) -> None:
        self._root, self._name = root, name
        self.has_usual_loggers = False
        """Whether the logs are in it too."""
        self._number = self._free_number()
        self.is_made = False
        """Whether the folder is there and is this run's."""

    @property
    def path(self) -> Path:
        """The folder; until it is made, the one that is free now."""
        return Path(self._root, self._name, f"version_{self._number}")

    def usual_loggers(self) -> list[CSVLogger | TensorBoardLogger]:
        """Return the loggers of a run for which the user has not chosen any."""
        self.has_usual_loggers = True
        kinds = (CSVLogger, TensorBoardLogger)
        return [kind(self._root, name=self._name, version=self._number) for kind in kinds]

    @contextmanager
    def made(self, trainer: L.Trainer) -> Iterator[None]:
        """Make the folder, and remove it if a mistake of the user ends the run before its first step.

        Runs that start at the same moment find the same number free. One of them can make the folder; the others take
        the next number. Folders of the user's own loggers are removed with it if they are new.

        Nothing is made with `fast_dev_run`, which keeps nothing, or for a root with a protocol, such as s3://.

        Args:
            trainer: Trainer of the run inside the block; its callbacks are given their places in the folder.
        """
        keeps_nothing: bool = trainer.fast_dev_run  # type: ignore[attr-defined]
        if keeps_nothing or not trainer.is_global_zero or "://" in self._root:
            yield
            return
        loggers = [logger for logger in trainer.loggers if isinstance(logger, (CSVLogger, TensorBoardLogger))]
        parents = (self.path.parent, *(Path(logger.root_dir) for logger in loggers))
        above = [path for parent in parents for path in (parent, *parent.parents) if not path.exists()]
        new = [path for logger in loggers if not (path := Path(logger.log_dir)).exists()]
        try:
            new = [self._claim(trainer), *(() if self.has_usual_loggers else new)]
            yield
        except Exception as error:
            if trainer.global_step == 0 and explain(error) is not None:
                for folder in new:
                    # Of a logger that the user has chosen another run may have taken it meanwhile, and be further.
                    if not (folder / "checkpoints").exists():
                        shutil.rmtree(folder, ignore_errors=True)
                for path in above:
                    with suppress(OSError):  # not empty: not ours alone
                        path.rmdir()
            raise

    def _claim(self, trainer: L.Trainer) -> Path:
        while not self._make():
            self._number = self._free_number()
        self.is_made = True
        if self.has_usual_loggers and trainer.loggers:
            trainer.loggers = [*self.usual_loggers()]
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.path / "checkpoints")
            if isinstance(callback, ModelFolder) and callback.folder is None:
                callback.folder = str(self.path / "model")
        return self.path

    def _make(self) -> bool:
        """Make the folder; returns False if it is there already."""
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            if not self.path.is_dir():
                raise
            return False
        return True

    def _free_number(self) -> int:
        folder = Path(self._root, self._name)
        found = [_NUMBER.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
        return max((int(match[1]) for match in found if match), default=-1) + 1
