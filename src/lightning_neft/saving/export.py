"""Write a fine-tuned model as a plain folder for `from_pretrained`, with nothing of this package or peft in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_neft.common.files import write_text
from lightning_neft.common.paths import user_path
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.registry import chat_template_of, template_named
from lightning_neft.errors import ModelError
from lightning_neft.models.decoding import decoding, end_ids
from lightning_neft.models.description import ModelFacts, write_facts
from lightning_neft.models.finite import first_non_finite
from lightning_neft.models.weights import DType
from lightning_neft.saving.folder import replacing_model_folder
from lightning_neft.saving.model_card import model_card

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["export_model"]


def export_model(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    facts: ModelFacts,
    folder: Path,
    *,
    name: str,
    config: Mapping[str, Any],
    run: Path | None,
    results: Mapping[str, Mapping[str, Any]],
    dtype: DType | None = None,
) -> bool:
    """Merge adapters into their base, and write model, tokenizer, decoding, model card and facts.

    The folder is there whole or not at all.

    Args:
        model: Of transformers, bare or inside peft; it is changed.
        tokenizer: Its tokenizer; it gets the chat template of the training, where that can be written as one.
        facts: How it was trained.
        folder: Where to; a folder that this package wrote, or an empty one, is replaced.
        name: Of the model, for its card.
        config: Of its run; empty if it is not known.
        run: The folder of its run; None if it is not known.
        results: Results of `lightning_neft evaluate` on it, by the names of their files.
        dtype: Of the written weights; that of the model by default.

    Raises:
        ModelError: If a weight is not finite, in the dtype that is written.

    Returns:
        Whether the tokenizer's chat template words prompts as the training did.
    """
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if dtype not in (None, "auto"):
        model = model.to(getattr(torch, dtype))
    if (weight := first_non_finite(model.named_parameters())) is not None:
        raise ModelError(
            f"the weights of this model are not finite in {str(model.dtype).removeprefix('torch.')} ({weight}): "
            "nothing was exported; give an earlier checkpoint, or a --dtype whose range is that of the training"
        )
    has_template = False
    if facts.template is not None:
        template = template_named(facts.template, tokenizer)
        chat_template = chat_template_of(template, tokenizer)
        if isinstance(template, ChatTemplate):
            # One of a file is that of the tokenizer from here on.
            facts = replace(facts, template=ChatTemplate.name)
        has_template = chat_template is not None or isinstance(template, ChatTemplate)
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        model.generation_config = _decoding(model, tokenizer, end_ids(tokenizer, template.stop))
    facts = replace(
        facts, base=_name(facts.base), architecture=type(model).__name__, dtype=str(model.dtype).removeprefix("torch.")
    )
    with replacing_model_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_facts(temporary, facts)
        card = model_card(facts, name, config=config, run=run, results=results, has_chat_template=has_template)
        write_text(temporary / "README.md", card)
    return has_template


def _decoding(model: Any, tokenizer: PreTrainedTokenizerBase, ends: list[int]) -> Any:
    """Return the pinned decoding, with the token that a decoder of the model starts with."""
    config = decoding(tokenizer, ends)
    config.decoder_start_token_id = getattr(model.generation_config, "decoder_start_token_id", None)
    return config


def _name(base: str) -> str:
    """Return a hub id as it is, and of a folder the name alone: where it was is of no use elsewhere."""
    path = user_path(base, "base")
    return path.name if path.is_absolute() or path.exists() else base
