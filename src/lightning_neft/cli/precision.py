"""The precision of a run for which none is given: that of its checkpoint, else the best of its device."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.plugins import Precision

from lightning_neft.errors import ModelError
from lightning_neft.models.checkpoint import DESCRIPTION
from lightning_neft.models.execution import native_bfloat16
from lightning_neft.saving.checkpoints import checkpoint_entries

__all__ = ["Choice", "choose_precision", "device_type"]

# Their matrices are too small for bfloat16 to be faster.
_TOYS = ("tiny", "tiny-t5")


@dataclass(frozen=True)
class Choice:
    """A precision, and why it was chosen.

    Attributes:
        precision: The Trainer's.
        reason: In a few words.
    """

    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.precision} ({self.reason})"


def choose_precision(config: Namespace, checkpoint: Path | None) -> Choice | None:
    """Choose the precision of a run that names none; None where it is given, as an option or a plugin.

    Args:
        config: What was parsed.
        checkpoint: What the run resumes from, if it exists.
    """
    if config.trainer.precision is not None or _has_plugin(config.trainer.plugins):
        return None
    best = _best(config)
    kept = None if checkpoint is None else _of_checkpoint(checkpoint)
    if kept is None:
        return best
    other = "" if kept == best.precision else f"; this machine would choose {best.precision}: {best.reason}"
    return Choice(kept, f"that of the checkpoint{other}")


def _best(config: Namespace) -> Choice:
    if config.model.base in _TOYS:
        return Choice("32-true", f"{config.model.base} is too small to gain from bfloat16")
    if config.model.dtype == "float16":
        return Choice("32-true", "model.dtype is float16")
    has_it, reason = native_bfloat16(device_type(config.trainer.accelerator))
    return Choice("bf16-mixed" if has_it else "32-true", reason)


def device_type(accelerator: Any) -> str:
    """Return the type of the device that Lightning takes for a `trainer.accelerator`; empty if it is not known here."""
    if accelerator in ("auto", "gpu"):
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return "" if found == "cpu" and accelerator == "gpu" else found
    return accelerator if isinstance(accelerator, str) else ""


def _has_plugin(plugins: Any) -> bool:
    """Return whether one of the Trainer's plugins sets the precision, which cannot be given twice."""
    for plugin in plugins if isinstance(plugins, list) else [plugins]:
        path = plugin.get("class_path") if isinstance(plugin, Namespace) else None
        if path is not None:
            module, _, name = path.rpartition(".")
            found = getattr(import_module(module), name)
            if isinstance(found, type) and issubclass(found, Precision):
                return True
    return False


def _of_checkpoint(path: Path) -> str | None:
    try:
        found = checkpoint_entries(path)[DESCRIPTION]["precision"]
    except (ModelError, KeyError, TypeError):  # what is wrong with it is reported where it is read
        return None
    return found if isinstance(found, str) else None
