"""Checkpoints: written whole or not at all, and read without running code."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor
from typing_extensions import override

from lightning_neft.common.files import replacing_file
from lightning_neft.errors import ModelError
from lightning_neft.models.checkpoint import DESCRIPTION, check_description, check_weights
from lightning_neft.models.description import ModelDescription

if TYPE_CHECKING:
    from lightning_neft.models.pretrained import PretrainedModule

__all__ = [
    "AtomicCheckpointIO",
    "checkpoint_description",
    "checkpoint_entries",
    "checkpoint_special_tokens",
    "checkpoint_step",
    "checkpoint_weights",
]

# Prefix of a LightningModule's weights, before the model's own names.
_PREFIX = "model."
# Lightning's file for everything but the weights of a sharded checkpoint.
_META = "meta.pt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint next to its path, waits until it is on disk, then renames it.

    Lightning's own plugin keeps a second copy in memory and writes to the system's temporary folder. If that is on
    another file system, the file is copied to its path, and a process killed meanwhile leaves a truncated checkpoint
    there. Paths with a protocol, such as s3://, are left to Lightning.

    >>> import lightning as L
    >>> options = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    >>> trainer = L.Trainer(plugins=[AtomicCheckpointIO()], **options)
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing_file(Path(path), durable=True) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # On a full disk torch.save reports an unexpected position in the file.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


def checkpoint_entries(path: Path) -> Mapping[str, Any]:
    """Return the entries of a checkpoint; its weights are memory-mapped, not read.

    Args:
        path: A `.ckpt` file, or the folder of a sharded checkpoint, whose weights are omitted.

    Raises:
        ModelError: If it cannot be read, or holds more than tensors and plain values.
    """
    file = path / _META if path.is_dir() else path
    try:
        # Reads the directory at the end, which a truncated file lacks.
        zipfile.ZipFile(file).close()
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors and plain values; it was refused, because loading it could run code"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is not a checkpoint, or only a part of one: {_one_line(error)}") from error
    if not isinstance(found, Mapping):
        raise ModelError(f"{path} is not a checkpoint: it holds a {type(found).__name__}")
    return found


def checkpoint_step(path: Path) -> int | None:
    """Return the optimiser step of a checkpoint; None if it does not record one.

    Raises:
        ModelError: If it cannot be read.
    """
    return checkpoint_entries(path).get("global_step")


def checkpoint_description(path: Path) -> ModelDescription | None:
    """Return what a checkpoint records about its training; None if it records nothing.

    Args:
        path: A `.ckpt` file, or the folder of a sharded checkpoint.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        return ModelDescription.of(_described(path))
    except KeyError:  # of another program, or of an earlier version
        return None
    except ValueError as error:
        raise ModelError(f"the checkpoint {path} cannot be read: {_one_line(error)}") from error


def checkpoint_special_tokens(path: Path) -> list[str] | None:
    """Return the tokens that the base's tokenizer lacked in the training; None if the checkpoint does not record them.

    Args:
        path: A `.ckpt` file, or the folder of a sharded checkpoint.

    Raises:
        ModelError: If it cannot be read.
    """
    return _described(path).get("special_tokens")


def _described(path: Path) -> Mapping[str, Any]:
    """Return the entry of a checkpoint that describes its model, empty without one."""
    has_entries = (path / _META if path.is_dir() else path).is_file()
    found: Mapping[str, Any] = checkpoint_entries(path).get(DESCRIPTION, {}) if has_entries else {}
    return found


def checkpoint_weights(module: PretrainedModule, path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by their names in the model.

    Args:
        module: The module, with its model built.
        path: A `.ckpt` file, or the folder of a sharded checkpoint.

    Raises:
        ModelError: If the checkpoint is of another model, or cannot be read.
    """
    if path.is_dir():
        weights = _sharded_weights(module, path)
    else:
        checkpoint = checkpoint_entries(path)
        weights = checkpoint["state_dict"]
        check_description(checkpoint.get(DESCRIPTION), module.description())
        own = module.state_dict()
        check_weights(weights, own, own if module.lora is None else module.trained)
    return {name.removeprefix(_PREFIX): value for name, value in weights.items()}


def _sharded_weights(module: PretrainedModule, path: Path) -> dict[str, Tensor]:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    # In full shape: the model may hold only the shard of this rank.
    weights = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in module.state_dict().items()}
    try:
        with warnings.catch_warnings():
            # A single process reads it on purpose.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
            load({"state_dict": weights}, checkpoint_id=path, no_dist=True)
    except (CheckpointException, OSError, RuntimeError) as error:
        # The message holds the tracebacks of all ranks; its last line is the reason.
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"the weights of the checkpoint {path} cannot be read: {reason}") from error
    return weights


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
