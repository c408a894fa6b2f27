"""The catalogue of base models: each size is counted with transformers' own class, on no memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from lightning_neft.errors import ConfigError
from lightning_neft.hub.base_models import BaseModel, base_models, find_base_model

# What else the size depends on, by model type or name.
_OWN: dict[str, dict[str, Any]] = {
    "t5": {"feed_forward_proj": "gated-gelu"},
    "phi3": {"pad_token_id": None, "partial_rotary_factor": 0.75},
    "opt-350m": {"word_embed_proj_dim": 512, "do_layer_norm_before": False},
}


def config_of(name: str, entry: BaseModel) -> Any:
    """The config that the publisher's model has, as far as its size depends on it."""
    if entry.model_type == "t5":
        shape = {
            "d_model": entry.width,
            "d_ff": entry.feed_forward,
            "d_kv": entry.width // entry.heads,
            "num_layers": entry.layers // 2,
            "num_decoder_layers": entry.layers // 2,
            "num_heads": entry.heads,
        }
    else:
        shape = {
            "hidden_size": entry.width,
            "num_hidden_layers": entry.layers,
            "num_attention_heads": entry.heads,
            "num_key_value_heads": entry.kv_heads,
            "max_position_embeddings": entry.context,
            "ffn_dim" if entry.model_type == "opt" else "intermediate_size": entry.feed_forward,
        }
    if entry.model_type == "opt":
        shape |= {"word_embed_proj_dim": entry.width}
    if entry.head_width is not None:
        shape["head_dim"] = entry.head_width
    own = {**_OWN.get(entry.model_type, {}), **_OWN.get(name, {})}
    return transformers.AutoConfig.for_model(
        entry.model_type, vocab_size=entry.vocabulary, tie_word_embeddings=entry.is_tied, **{**shape, **own}
    )


@pytest.mark.parametrize("name", base_models())
def test_parameters_are_those_of_the_class_in_transformers(name: str) -> None:
    entry = find_base_model(name)
    config = config_of(name, entry)
    is_classifier = entry.architecture.endswith("ForSequenceClassification")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config) if is_classifier else None
        model = model or getattr(transformers, entry.architecture)(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    if entry.model_type == "t5" and not entry.is_tied:
        # transformers 5 unties a T5 only when it meets the second table in a checkpoint.
        counted += entry.vocabulary * entry.width
    assert counted == entry.parameters


def test_error_for_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no base model 'llama2-7b'; did you mean llama-2-7b\?"):
        find_base_model("llama2-7b")


def test_each_hub_id_has_one_entry() -> None:
    ids = [entry.hub_id for entry in base_models().values()]
    assert len(ids) == len(set(ids))
