"""Write a fine-tuned model as a folder for `from_pretrained`, whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from lightning_neft.common.files import replaced
from lightning_neft.common.paths import user_path
from lightning_neft.errors import DataError, ModelError
from lightning_neft.models.description import FACTS_FILE, ModelFacts, list_files, write_facts
from lightning_neft.models.finite import first_non_finite
from lightning_neft.saving.checkpoints import checkpoint_weights

if TYPE_CHECKING:
    from lightning_neft.models.pretrained import PretrainedModule

__all__ = ["replacing_model_folder", "save_model"]


def save_model(module: PretrainedModule, folder: str | Path, checkpoint: str | Path | None = None) -> None:
    """Write model and tokenizer as a folder for `from_pretrained`: with LoRA the adapters, else all weights.

    All ranks have to call it, the first one writes. The folder is there whole or not at all.

    Args:
        module: Of this package.
        folder: Where to; a folder that this package wrote, or an empty one, is replaced.
        checkpoint: The `.ckpt` whose weights are written; the current ones by default.

    Raises:
        ModelError: If the checkpoint is none of this model, or a weight is not finite.
        ConfigError: If there is something else in this place.
    """
    folder = user_path(folder, "folder")
    module.configure_model()
    weights = _current_weights(module)  # every rank has to take part
    if module.global_rank != 0:
        return
    if checkpoint is not None:
        weights |= checkpoint_weights(module, Path(checkpoint))
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
        tokenizer, facts = module.tokenizer(), ModelFacts.of(module.description())
        if (chat_template := _template_of_file(module)) is not None:
            tokenizer.chat_template = chat_template
            facts = replace(facts, template="tokenizer")
        tokenizer.save_pretrained(temporary)
        write_facts(temporary, facts)


def _template_of_file(module: PretrainedModule) -> str | None:
    """Return the chat template of a file that the data were rendered with; the folder has to be complete without it."""
    datamodule: Any = None if module._trainer is None else module.trainer.datamodule  # type: ignore[attr-defined]
    with suppress(DataError):  # the data were never read
        return getattr(datamodule.prepared.template, "of_file", None) if hasattr(datamodule, "options") else None
    return None


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
            list_files(temporary)
    except SafetensorError as error:
        # Of what the system says it keeps the number, and that in its text alone.
        if (number := re.search(r"(?:os error |code: )(\d+)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
