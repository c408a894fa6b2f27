"""`AtomicCheckpointIO`: a checkpoint file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from lightning_neft.common.files import replacing_file

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, waits until it is on the disk, then moves it there.

    Lightning's own writes a second copy in memory first, and then a file in the system's folder for temporary files:
    moved from there to another file system it is copied, and a run that is stopped in that moment leaves a part of a
    checkpoint under the name of a whole one. Paths with a protocol, such as s3://, are left to Lightning.

    >>> import lightning as L
    >>> options = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    >>> trainer = L.Trainer(plugins=[AtomicCheckpointIO()], **options)
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            with replacing_file(path, durable=True) as file:
                _save(checkpoint, file)
        except OSError as error:
            # On a full disk neither says which file it was.
            raise OSError(error.errno, error.strerror, str(path)) from error


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """Write a checkpoint; an error of the disk is raised as what it is.

    `torch.save` says of it only that the place in the file is not the one that it expected.
    """
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
