"""Which file `--ckpt_path` means."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.cli.program import Program

__all__ = ["checkpoint_of"]


def checkpoint_of(program: Program) -> Path | None:
    """Return the checkpoint that a command line names, None if it names none.

    Raises:
        ConfigError: If it is not there, or is no checkpoint.
    """
