"""`ModelFolder`: writes the model of a fit as a folder for `from_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lightning_neft.callbacks.step_checkpoint import main_checkpoint
from lightning_neft.common.files import check_replaceable
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.models.description import DESCRIPTION_FILE
from lightning_neft.models.pretrained import PretrainedModule
from lightning_neft.saving.checkpoints import checkpoint_step
from lightning_neft.saving.folder import save_model

__all__ = ["ModelFolder"]


class ModelFolder(pl.Callback):
    """Writes the best checkpoint of a fit, or the last weights if there is none, as a folder for `from_pretrained`.

    With LoRA the folder holds the adapters and the name of their base.

    Args:
        folder: The folder; by default `model` in the folder of the run's logs.

    Raises:
        ConfigError: At the start of fit, if the module is not one of this package, or the folder holds other files.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[ModelFolder()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self.written: Path | None = None
        """The folder, after it was written."""
        self.step: int | None = None
        """Optimiser step of its weights."""

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, PretrainedModule):
            raise ConfigError(f"ModelFolder works with the models of this package, got {type(pl_module).__name__}.")
        # Not only at the end of the fit, when its time is spent.
        check_replaceable(self._path(trainer), DESCRIPTION_FILE)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = self._path(trainer)
        checkpoint = main_checkpoint(trainer)
        best = "" if checkpoint is None else checkpoint.best_model_path
        try:
            save_model(cast("PretrainedModule", pl_module), folder, best or None)
        except ModelError as error:
            # The fit itself succeeded, and its checkpoints are written.
            rank_zero_warn(f"no model folder was written: {error}")
        else:
            self.written = folder
            self.step = checkpoint_step(Path(best)) if best else trainer.global_step

    def _path(self, trainer: pl.Trainer) -> Path:
        # On all ranks: a run's folder may be set on rank 0 alone, and `log_dir` waits for all of them.
        folder: str | None = trainer.strategy.broadcast(self.folder)
        if folder is not None:
            return user_path(folder, "folder of ModelFolder")
        return Path(trainer.log_dir or trainer.default_root_dir) / "model"
