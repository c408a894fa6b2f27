"""What a fit has left on disk, and the optimiser step that each file is of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning as L

from lightning_neft.cli.run_folder import RunFolder
from lightning_neft.errors import ModelError
from lightning_neft.models.checkpoint_weights import checkpoint_step
from lightning_neft.models.model_folder import ModelFolder
from lightning_neft.models.step_checkpoint import main_checkpoint

__all__ = ["last_checkpoint", "saved_files"]


def saved_files(trainer: L.Trainer, run_folder: RunFolder) -> Iterator[tuple[str, str]]:
    """Yield (what it is, path) of what is there: checkpoints and model folder with their steps, logs and config.

    Args:
        trainer: The Trainer, on the first process.
        run_folder: The folder of its run.
    """
    checkpoint = main_checkpoint(trainer)
    if checkpoint is not None:
        # Without a monitor Lightning calls the newest one the best.
        best = checkpoint.best_model_path if checkpoint.monitor else ""
        for name, path in (("best checkpoint", best), ("last checkpoint", checkpoint.last_model_path)):
            if path and Path(path).exists():
                yield f"{name}{_of_step(Path(path))}", path
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, ModelFolder) and callback.written is not None:
            yield f"model folder (step {callback.step})", str(callback.written)
    if run_folder.is_made:
        yield "log and config" if run_folder.has_usual_loggers else "config", str(run_folder.path)


def last_checkpoint(trainer: L.Trainer) -> str:
    """Say in a few words which checkpoint a run that was broken off has left, and how to resume from it."""
    checkpoint = main_checkpoint(trainer)
    path = "" if checkpoint is None else checkpoint.last_model_path
    if not path or not Path(path).exists():
        return "there is no checkpoint from before"
    return f"the last checkpoint is from before{_of_step(Path(path))}: {path}"


def _of_step(path: Path) -> str:
    try:
        return f" (step {checkpoint_step(path)})"
    except ModelError:
        return ""
