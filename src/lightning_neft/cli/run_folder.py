"""The folder `version_N` of a run with its config: never shared, removed if the run fails before its first step."""

from __future__ import annotations

import errno
import json
import re
import shutil
from argparse import Namespace as PlainNamespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from typing_extensions import override

from lightning_neft.callbacks.model_folder import ModelFolder
from lightning_neft.callbacks.step_checkpoint import main_checkpoint
from lightning_neft.cli.errors import explain
from lightning_neft.cli.loggers import USUAL, LoggerName, build_loggers
from lightning_neft.common.files import write_text
from lightning_neft.common.secrets import MASK, is_masked, is_secret, mask_addresses
from lightning_neft.data.prompts import asked
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.saving.checkpoints import checkpoint_step

if TYPE_CHECKING:
    from lightning_neft.data.module import TextData

__all__ = ["RunFolder", "SaveConfig", "check_not_masked", "last_checkpoint", "of_step"]

_NUMBER = re.compile(r"version_(\d+)")
# The section with keys of third-party classes: a logger has the API key of its server.
_OF_CLASSES = "trainer"


class RunFolder:
    """The folder for config, checkpoints and model folder of a run and, unless the user has chosen loggers, its logs.

    Args:
        root: Folder of all runs.
        name: Name of the run, whose folder in `root` has a `version_N` for each run of this name.
    """

    def __init__(self, root: str, name: str) -> None:
        self._root, self._name = root, name
        self._loggers: list[LoggerName] = []
        self._tags: dict[str, str] = {}
        self.has_usual_loggers = False
        """Whether the logs are in it, too."""
        self._number = self._free_number()
        self.is_made = False
        """Whether the folder exists and is this run's."""

    @property
    def path(self) -> Path:
        """The folder; before it is made, the first free one."""
        return Path(self._root, self._name, f"version_{self._number}")

    def loggers(self, names: Sequence[LoggerName], tags: Mapping[str, str]) -> list[Logger]:
        """Return the loggers of these names for a run, whose name and tags are the run's.

        Args:
            names: Their names.
            tags: What the run is of.
        """
        self._loggers, self._tags = [*names], dict(tags)
        self.has_usual_loggers = any(name in USUAL for name in names)
        return build_loggers(names, self._root, self._name, self._number, tags)

    @contextmanager
    def made(self, trainer: L.Trainer) -> Iterator[None]:
        """Make the folder, and remove it if an error that the user can fix ends the run before its first step.

        Runs that start at the same moment find the same number free. One of them makes the folder; the others take the
        next number. New folders of the user's own loggers are removed with it.

        Nothing is made with `fast_dev_run`, which saves nothing, or for a root with a protocol, such as s3://.

        Args:
            trainer: Trainer of the run inside the block; its callbacks get their paths in the folder.
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
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and self.has_usual_loggers:
                error.filename = error.filename or str(self.path)  # loggers report no file
            if trainer.global_step == 0 and explain(error) is not None:
                for folder in new:
                    # Another run with the user's logger may have taken this folder meanwhile.
                    if not (folder / "checkpoints").exists():
                        shutil.rmtree(folder, ignore_errors=True)
                for path in above:
                    with suppress(OSError):  # not empty: others use it
                        path.rmdir()
            raise

    def _claim(self, trainer: L.Trainer) -> Path:
        given = self._number
        while not self._make():
            self._number = self._free_number()
        self.is_made = True
        if self._number != given and self._loggers and trainer.loggers:
            trainer.loggers = self.loggers(self._loggers, self._tags)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.path / "checkpoints")
            if isinstance(callback, ModelFolder) and callback.folder is None:
                callback.folder = str(self.path / "model")
        return self.path

    def _make(self) -> bool:
        """Make the folder; return False if it exists."""
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

    def files(self, trainer: L.Trainer) -> Iterator[tuple[str, str]]:
        """Yield name and path of what a fit saved: checkpoints and model folder with their steps, logs and config.

        Args:
            trainer: The Trainer, on rank 0.
        """
        checkpoint = main_checkpoint(trainer)
        if checkpoint is not None:
            # Without a monitor Lightning's best checkpoint is the newest.
            best = checkpoint.best_model_path if checkpoint.monitor else ""
            for name, path in (("best checkpoint", best), ("last checkpoint", checkpoint.last_model_path)):
                if path and Path(path).exists():
                    yield f"{name}{of_step(path)}", path
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, ModelFolder) and callback.written is not None:
                yield f"model folder (step {callback.step})", str(callback.written)
        if self.is_made:
            yield "log and config" if self.has_usual_loggers else "config", str(self.path)

    def write_predictions(self, data: TextData, batches: list[list[str]]) -> None:
        """Write the answers to the validation set to `predictions.jsonl`, if the folder was made.

        Each line is an object with prompt (the last question, or the text), reference and answer.

        Args:
            data: The data.
            batches: The output of `Trainer.predict`.
        """
        if not self.is_made:
            return
        answers = [answer for batch in batches for answer in batch]
        assert data.prepared.held_out is not None  # predict_dataloader refuses that
        # Shorter than the data under trainer.limit_predict_batches.
        pairs = zip(map(asked, data.prepared.held_out.samples), answers, strict=False)
        lines = [{"prompt": prompt, "reference": reference, "answer": answer} for (prompt, reference), answer in pairs]
        path = self.path / "predictions.jsonl"
        write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        print(f"{len(lines)} answers: {path}")


def last_checkpoint(trainer: L.Trainer) -> str:
    """Return a clause about the checkpoint that an interrupted run has left."""
    checkpoint = main_checkpoint(trainer)
    path = "" if checkpoint is None else checkpoint.last_model_path
    if not path or not Path(path).exists():
        return "there is no earlier checkpoint"
    return f"the last checkpoint is from before{of_step(path)}: {path}"


def of_step(path: str) -> str:
    """Return the step of a checkpoint in brackets, after a space; nothing if it cannot be read."""
    try:
        return f" (step {checkpoint_step(Path(path))})"
    except ModelError:
        return ""


class SaveConfig(SaveConfigCallback):
    """Writes the config into the folder of a run, if it has one.

    Args:
        parser: The parser of the program.
        config: The parsed config.
        run_folder: The folder of the run.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, run_folder: RunFolder) -> None:
        super().__init__(parser, _masked(config.clone(), "", False), save_to_log_dir=False)
        self._run_folder = run_folder

    @override
    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not self._run_folder.is_made:
            return
        # An `auto` is kept as what was decided.
        self.config.model.gradient_checkpointing = getattr(pl_module, "gradient_checkpointing", False)
        path = self._run_folder.path / self.config_filename
        # A secret may have a name that does not look like one.
        path.touch(mode=0o600)
        self.parser.save(self.config, path, skip_none=False, multifile=False, overwrite=True)


def check_not_masked(config: Namespace, without: Collection[str] = ()) -> None:
    """Reject a config whose secrets were masked when it was saved.

    Args:
        config: The parsed config.
        without: Keys that are not used, such as `trainer.logger` if no logger is built.

    Raises:
        ConfigError: If a value is masked; the message lists all of them.
    """
    found = [key for key, value in _values(config, "") if is_masked(value) and not key.startswith(tuple(without))]
    if found:
        raise ConfigError(
            f"{', '.join(found)}: the secret was masked when the config was saved; give it again, or omit the option "
            "and set the environment variable that its class reads"
        )


def _masked(value: Any, name: str, is_of_class: bool) -> Any:
    if is_of_class and is_secret(name, value):
        return MASK
    if isinstance(value, (PlainNamespace, Mapping)):
        inner: dict[str, Any] = vars(value) if isinstance(value, PlainNamespace) else dict(value)
        for key in inner:
            inner[key] = _masked(inner[key], str(key), is_of_class or key == _OF_CLASSES)
        return value if isinstance(value, PlainNamespace) else inner
    if isinstance(value, (list, tuple)):
        return [_masked(inner, "", is_of_class) for inner in value]
    return mask_addresses(value) if isinstance(value, str) else value


def _values(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield each plain value with its dotted key; those of a class are below its `init_args`."""
    if isinstance(value, (PlainNamespace, Mapping)):
        inner = vars(value) if isinstance(value, PlainNamespace) else value
        for name in inner:
            yield from _values(inner[name], f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _values(one, key)
    else:
        yield key, value
