"""Which file `--ckpt_path` means."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from lightning_neft.cli.program import Program, newest_checkpoint
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError

__all__ = ["checkpoint_of"]

# Of which a checkpoint in parts has one: PyTorch's, and that of DeepSpeed.
_OF_PARTS = (".metadata", "checkpoint")
# What Lightning would take for one in its memory, which a new process does not have.
_KEYWORDS = ("best", "hpc", "registry")
_READ_PARTS = (ModelParallelStrategy, FSDPStrategy, DeepSpeedStrategy)
# What Lightning writes into each checkpoint, and cannot read one without.
_ENTRIES = ("state_dict", "pytorch-lightning_version")
# What it leaves out with save_weights_only.
_TO_RESUME = ("optimizer_states", "lr_schedulers", "callbacks")


def checkpoint_of(program: Program, any_parts: bool = False, resumes: bool = False) -> Path | None:
    """Return the checkpoint that a command line names; None if it names none.

    Args:
        program: The parsed command line and its Trainer.
        resumes: Whether a fit resumes from it, for which weights alone are not enough.
        any_parts: Whether one in parts is read by other means than the Trainer's strategy, which has to know them.

    Raises:
        ConfigError: If it is not there, or is no checkpoint.
        pickle.UnpicklingError: If it holds more than tensors and plain values.
    """
    given = program.config.ckpt_path
    if given is None:
        return None
    if not given:
        raise ConfigError("--ckpt_path needs a value: a path, or last")
    root, name, dirpath = program.trainer.default_root_dir, program.config.name, program.config.checkpoint.dirpath
    path = newest_checkpoint(Path(root), name, dirpath) if given == "last" else user_path(given, "--ckpt_path")
    if not path.exists():
        found = _saved(program) if given in _KEYWORDS else []
        others = f"; its run has {', '.join(found)}" if found else ""
        raise ConfigError(f"--ckpt_path {given}: no such file (looked in {Path.cwd()}); give a path, or last{others}")
    if path.is_dir():
        if not any((path / part).exists() for part in _OF_PARTS):
            raise ConfigError(f"--ckpt_path {given} is a folder, and no checkpoint in parts; give a file in it")
        _check_strategy(path, program, any_parts)
    elif not zipfile.is_zipfile(path):
        raise ConfigError(f"--ckpt_path {path} is not a checkpoint, or only a part of one")
    else:
        _check_entries(path, str(path), resumes)
    return path


def _saved(program: Program) -> list[str]:
    """Return the checkpoints of the newest run of this name."""
    try:
        config = program.config
        last = newest_checkpoint(Path(program.trainer.default_root_dir), config.name, config.checkpoint.dirpath)
    except ConfigError:
        return []
    return sorted(str(path) for path in last.parent.glob("*.ckpt"))


def _check_strategy(path: Path, program: Program, any_parts: bool) -> None:
    strategy = program.trainer.strategy
    if path.is_dir() and not any_parts and not isinstance(strategy, _READ_PARTS):
        raise ConfigError(
            f"--ckpt_path {path} is a checkpoint in parts, which {type(strategy).__name__} does not read; give the "
            "trainer.strategy and devices of its config.yaml"
        )


def _check_entries(path: Path, given: str, resumes: bool) -> None:
    try:
        # Mapped into memory: the weights are not read.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, ValueError, RuntimeError, KeyError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--ckpt_path {given} is not a checkpoint, or only a part of one: {reason}") from error
    if not isinstance(found, Mapping):
        raise ConfigError(f"--ckpt_path {given} is not a checkpoint: it holds a {type(found).__name__}")
    if lacking := [name for name in _ENTRIES if name not in found]:
        raise ConfigError(f"--ckpt_path {given} is not a checkpoint of Lightning: it has no {lacking[0]}")
    weights = found["state_dict"]
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ConfigError(f"--ckpt_path {given} is not a checkpoint: its state_dict holds more than tensors, or none")
    if resumes and (lacking := [name for name in _TO_RESUME if name not in found]):
        raise ConfigError(
            f"--ckpt_path {given} holds weights alone (it has no {lacking[0]}, as with checkpoint.save_weights_only): "
            "a fit cannot resume from it; write a model folder with lightning_neft export, and give that as model.base"
        )
