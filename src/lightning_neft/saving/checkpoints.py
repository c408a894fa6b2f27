"""Checkpoints: written whole or not at all, read for their weights and what they say of their model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor
from typing_extensions import override

from lightning_neft.common.files import replacing_file
from lightning_neft.errors import ModelError
from lightning_neft.models.checkpoint import DESCRIPTION, check_description, check_weights
from lightning_neft.models.description import ModelFacts

if TYPE_CHECKING:
    from lightning_neft.models.pretrained import PretrainedModule

__all__ = ["AtomicCheckpointIO", "checkpoint_entries", "checkpoint_facts", "checkpoint_step", "checkpoint_weights"]


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


# Of the LightningModule's weights, in front of the names of the model's own.
_PREFIX = "model."
# Where Lightning puts what is no tensor of a checkpoint in parts.
_META = "meta.pt"


def checkpoint_entries(path: Path) -> Mapping[str, Any]:
    """Return what a checkpoint holds besides the parts of its ranks; weights of one file are not read but mapped.

    Args:
        path: A `.ckpt` file, or the folder of one whose parts the ranks wrote.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        entries: Mapping[str, Any] = torch.load(
            path / _META if path.is_dir() else path, map_location="cpu", weights_only=True, mmap=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"the checkpoint {path} cannot be read: {' '.join(str(error).split())}") from error
    return entries


def checkpoint_step(path: Path) -> int | None:
    """Return the optimiser step that a checkpoint is of, or None where it does not say.

    Raises:
        ModelError: If it cannot be read.
    """
    return checkpoint_entries(path).get("global_step")


def checkpoint_facts(path: Path) -> ModelFacts | None:
    """Return what a checkpoint says of its training, or None where it says nothing.

    Args:
        path: A `.ckpt` file, or the folder of one whose parts the ranks wrote.

    Raises:
        ModelError: If it cannot be read.
    """
    file = path / _META if path.is_dir() else path
    if not file.is_file():
        return None
    entries = checkpoint_entries(path)
    try:
        return ModelFacts.of(entries[DESCRIPTION])
    except KeyError:  # of another program, or of a version that said less
        return None
    except ValueError as error:
        raise ModelError(f"the checkpoint {path} cannot be read: {' '.join(str(error).split())}") from error


def checkpoint_weights(module: PretrainedModule, path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under the names that they have in the model itself.

    Args:
        module: The module, with its model built.
        path: A `.ckpt` file, or the folder of one whose parts the ranks wrote.

    Raises:
        ModelError: If the checkpoint is none of this model, or cannot be read.
    """
    if path.is_dir():
        return _sharded_weights(module, path)
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    check_description(checkpoint.get(DESCRIPTION), module.description())
    own = module.state_dict()
    check_weights(checkpoint["state_dict"], own, own if module.lora is None else module.trained)
    return {name.removeprefix(_PREFIX): value for name, value in checkpoint["state_dict"].items()}


def _sharded_weights(module: PretrainedModule, path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint that each rank wrote its part of."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    # With the shapes of the whole: those of the model may be of this rank's shard.
    weights = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in module.state_dict().items()}
    try:
        with warnings.catch_warnings():
            # That one process reads is what is meant here.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
            load({"state_dict": weights}, checkpoint_id=path, no_dist=True)
    except (CheckpointException, OSError, RuntimeError) as error:
        # The exception holds the tracebacks of the ranks: their last line says what went wrong.
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"the weights of the checkpoint {path} cannot be read: {reason}") from error
    return {name.removeprefix(_PREFIX): value for name, value in weights.items()}
