"""Model folders for `from_pretrained`: a fit's own, and the export, merged and without this package's classes."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from lightning_neft.common.files import replaced, write_text
from lightning_neft.common.paths import user_path
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.registry import chat_template_of, template_named
from lightning_neft.errors import DataError, ModelError
from lightning_neft.hub.vision_language import is_vision_language
from lightning_neft.models.decoding import decoding, end_ids
from lightning_neft.models.description import DESCRIPTION_FILE, ModelDescription, list_files, write_description
from lightning_neft.models.finite import first_non_finite
from lightning_neft.models.weights import DType
from lightning_neft.saving.adapters import as_plain_lora, describe_as_plain_lora
from lightning_neft.saving.checkpoints import checkpoint_weights
from lightning_neft.saving.model_card import model_card
from lightning_neft.saving.whole_base import save_whole_base

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lightning_neft.models.pretrained import PretrainedModule

__all__ = ["export_model", "save_model"]


def save_model(module: PretrainedModule, folder: str | Path, checkpoint: str | Path | None = None) -> None:
    """Write model and tokenizer as a folder for `from_pretrained`: with LoRA the adapters, else all weights.

    Every rank has to call it; rank 0 writes. The folder is written whole or not at all.

    Args:
        module: A module of this package.
        folder: The folder; one that this package wrote, or an empty one, is replaced.
        checkpoint: The `.ckpt` whose weights are written; the current weights by default.

    Raises:
        ModelError: If the checkpoint is of another model, or a weight is not finite.
        ConfigError: If the folder holds anything else.
    """
    folder = user_path(folder, "folder")
    module.configure_model()
    weights = _current_weights(module)  # on every rank
    if module.global_rank != 0:
        return
    if checkpoint is not None:
        weights |= checkpoint_weights(module, Path(checkpoint))
    names = {name for name, _ in module.model.named_parameters()}
    if (name := first_non_finite(item for item in weights.items() if item[0] in names)) is not None:
        raise ModelError(f"the weights of {checkpoint or 'the model'} are not finite ({name})")
    if module.initial_adapters:
        weights = as_plain_lora(weights, module.initial_adapters)
    # Options of peft; transformers writes nothing but safetensors.
    options = (
        {} if module.lora is None else {"safe_serialization": True, "save_embedding_layers": module.has_new_tokens}
    )
    with _replacing_model_folder(folder) as temporary:
        if module.lora is None and _is_whole(module.model):
            save_whole_base(module.model, weights, temporary)
        else:
            module.model.save_pretrained(temporary, state_dict=weights, **options)
        if module.initial_adapters:
            describe_as_plain_lora(temporary)
        # peft adds an empty model card.
        (temporary / "README.md").unlink(missing_ok=True)
        tokenizer, facts = module.tokenizer(), ModelDescription.of(module.description())
        if (chat_template := _template_of_file(module)) is not None:
            tokenizer = copy.copy(tokenizer)
            tokenizer.chat_template = chat_template
            facts = replace(facts, template=ChatTemplate.name)
        tokenizer.save_pretrained(temporary)
        write_description(temporary, facts)


def export_model(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    facts: ModelDescription,
    folder: Path,
    *,
    name: str,
    config: Mapping[str, Any],
    run: Path | None,
    results: Mapping[str, Mapping[str, Any]],
    dtype: DType | None = None,
) -> bool:
    """Merge adapters into their base, and write model, tokenizer, decoding, model card and facts.

    The folder is written whole or not at all, and needs neither this package nor peft.

    Args:
        model: A model of transformers, bare or inside peft; it is changed.
        tokenizer: Its tokenizer; it gets the template of the training as its chat template, if that can be one.
        facts: How the model was trained.
        folder: The folder; one that this package wrote, or an empty one, is replaced.
        name: Name of the model in its card.
        config: Config of its run; empty if unknown.
        run: Folder of its run; None if unknown.
        results: Results of `lightning_neft evaluate` on it, by file name.
        dtype: Dtype of the written weights; that of the model by default.

    Raises:
        ModelError: If a weight is not finite in the dtype that is written.

    Returns:
        Whether the tokenizer's chat template renders prompts as in training.
    """
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    wanted = None if dtype in (None, "auto") else getattr(torch, dtype)
    if wanted is not None:
        model = model.to(wanted)
    written = str(model.dtype).removeprefix("torch.")
    if (weight := first_non_finite(model.named_parameters())) is not None:
        raise ModelError(
            f"the weights of this model are not finite in {written} ({weight}): nothing was exported; give an earlier "
            "checkpoint, or a --dtype with the range of the training's"
        )
    has_template = False
    if facts.template is not None:
        template = template_named(facts.template, tokenizer)
        chat_template = chat_template_of(template, tokenizer)
        if isinstance(template, ChatTemplate):
            # A template from a file becomes the tokenizer's.
            facts = replace(facts, template=ChatTemplate.name)
        has_template = chat_template is not None or isinstance(template, ChatTemplate)
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        start = getattr(model.generation_config, "decoder_start_token_id", None)
        model.generation_config = decoding(tokenizer, end_ids(tokenizer, template.stop))
        model.generation_config.decoder_start_token_id = start
    base = user_path(facts.base, "base")
    facts = replace(
        facts,
        # The name of a folder: its path means nothing on another machine.
        base=base.name if base.is_absolute() or base.exists() else facts.base,
        architecture=type(model).__name__,
        dtype=written,
    )
    with _replacing_model_folder(folder) as temporary:
        if _is_whole(model):
            save_whole_base(model, model.state_dict(), temporary, wanted)
        else:
            model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_description(temporary, facts)
        card = model_card(facts, name, config=config, run=run, results=results, has_chat_template=has_template)
        write_text(temporary / "README.md", card)
    return has_template


def _is_whole(model: Any) -> bool:
    """Return whether a model is a vision-language base loaded whole, whose folder has all that the base's has."""
    # A classifier is another model than its base; quantised weights have keys of their own.
    is_whole = type(model).__name__.endswith("ForConditionalGeneration")
    return is_whole and is_vision_language(model.config) and not hasattr(model.config, "quantization_config")


def _template_of_file(module: PretrainedModule) -> str | None:
    """Return the chat template if the data module read it from a file, which the folder must not depend on."""
    datamodule: Any = None if module._trainer is None else module.trainer.datamodule  # type: ignore[attr-defined]
    with suppress(DataError):  # the data were never read
        return getattr(datamodule.prepared.template, "of_file", None) if hasattr(datamodule, "options") else None
    return None


def _current_weights(module: PretrainedModule) -> dict[str, Tensor]:
    """Return the model's weights, gathered from all ranks if they are sharded."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return dict(module.model.state_dict())
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = get_model_state_dict(module.model, options=options)
    return weights


@contextmanager
def _replacing_model_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that replaces a model folder at the end of the block; see `common.files.replaced`."""
    try:
        with replaced(folder, DESCRIPTION_FILE) as temporary:
            yield temporary
            list_files(temporary)
    except OSError as error:
        # transformers reports a full disk without a file.
        if error.filename is None:
            error.filename = str(folder)
        raise
    except SafetensorError as error:
        # The system's error number appears only in the text.
        if (number := re.search(r"(?:os error |code: )(\d+)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
