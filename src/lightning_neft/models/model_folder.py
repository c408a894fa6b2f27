"""A fine-tuned model as a folder for `from_pretrained`, and `ModelFolder`, which writes one at the end of a fit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError
from torch import Tensor
from typing_extensions import override

from lightning_neft.callbacks.step_checkpoint import main_checkpoint
from lightning_neft.common.files import check_replaceable, replaced
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.models.description import FACTS_FILE, ModelFacts, write_facts
from lightning_neft.models.finite import first_non_finite
from lightning_neft.saving.checkpoint_weights import checkpoint_step, checkpoint_weights

if TYPE_CHECKING:
    from lightning_neft.models.pretrained import PretrainedModule

__all__ = ["ModelFolder", "replacing_model_folder", "save_folder"]


def save_folder(module: PretrainedModule, folder: Path, checkpoint: Path | None = None) -> None:
    """Write a model and its tokenizer; see `PretrainedModule.save_model`."""
    module.configure_model()
    weights = _current_weights(module)  # every rank has to take part
    if module.global_rank != 0:
        return
    if checkpoint is not None:
        weights |= checkpoint_weights(module, checkpoint)
    names = {name for name, _ in module.model.named_parameters()}
    if (name := first_non_finite(item for item in weights.items() if item[0] in names)) is not None:
        raise ModelError(f"its weights are not finite ({name})")
    # Only peft knows the word; transformers writes nothing else.
    options = (
        {} if module.lora is None else {"safe_serialization": True, "save_embedding_layers": module.has_new_tokens}
    )
    with replacing_model_folder(folder) as temporary:
        module.model.save_pretrained(temporary, state_dict=weights, **options)
        # peft puts a form of a model card there, with nothing filled in.
        (temporary / "README.md").unlink(missing_ok=True)
        module.tokenizer().save_pretrained(temporary)
        write_facts(temporary, ModelFacts.of(module.description()))


class ModelFolder(pl.Callback):
    """Writes the best checkpoint of a fit, or the last weights without one, as a folder for `from_pretrained`.

    With LoRA the folder has the adapters alone and names their base.

    `written` is the folder once it is there.

    Args:
        folder: Where to; the folder `model` beside the logs of the run by default.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[ModelFolder()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self.written: Path | None = None
        self.step: int | None = None
        """Optimiser step of what was written."""

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not hasattr(pl_module, "save_model"):
            raise ConfigError(f"ModelFolder works with the models of this package, got {type(pl_module).__name__}.")
        # At the end of the fit it would be too late to say so.
        check_replaceable(self._path(trainer), FACTS_FILE)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = self._path(trainer)
        checkpoint = main_checkpoint(trainer)
        best = "" if checkpoint is None else checkpoint.best_model_path
        try:
            pl_module.save_model(folder, best or None)  # type: ignore[operator]
        except ModelError as error:
            # The run itself is done and its checkpoints are written.
            rank_zero_warn(f"no model folder was written: {error}")
        else:
            self.written = folder
            self.step = checkpoint_step(Path(best)) if best else trainer.global_step

    def _path(self, trainer: pl.Trainer) -> Path:
        # All ranks ask: the folder of a run may be set on the first alone, and `log_dir` waits for all of them.
        folder: str | None = trainer.strategy.broadcast(self.folder)
        if folder is not None:
            return user_path(folder, "folder of ModelFolder")
        return Path(trainer.log_dir or trainer.default_root_dir) / "model"


def _current_weights(module: PretrainedModule) -> dict[str, Tensor]:
    """Return the model's own weights, put together from the ranks where they are sharded."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return dict(module.model.state_dict())
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = get_model_state_dict(module.model, options=options)
    return weights


@contextmanager
def replacing_model_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of a model folder once it is filled; see `common.files.replaced`.

    Raises:
        ConfigError: There is something that is not a model folder of this package.
        OSError: It cannot be written.
    """
    try:
        with replaced(folder, FACTS_FILE) as temporary:
            yield temporary
    except SafetensorError as error:
        # Of what the system says it keeps the number, and that in its text alone.
        if (number := re.search(r"(?:os error |code: )(\d+)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
