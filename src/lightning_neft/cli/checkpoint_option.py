"""Which file `--ckpt_path` means."""

from __future__ import annotations

import zipfile
from pathlib import Path

from lightning_neft.cli.program import Program, newest_checkpoint
from lightning_neft.errors import ConfigError

__all__ = ["checkpoint_of"]


def checkpoint_of(program: Program) -> Path | None:
    """Return the checkpoint that a command line names; None if it names none.

    Raises:
        ConfigError: If it is not there, or is no checkpoint.
    """
    given = program.config.ckpt_path
    if given is None:
        return None
    if given == "last":
        return newest_checkpoint(Path(program.trainer.default_root_dir), program.config.name)
    path = Path(given).expanduser()
    if not path.exists():
        raise ConfigError(f"--ckpt_path {given}: no such file (looked in {Path.cwd()}); give a path, or last")
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ConfigError(f"--ckpt_path {given} is not a checkpoint, or only a part of one")
    return path
