"""The base models of the recipes: hub id, licence, size, shape and architecture, from base_models.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft.common.config_text import compose_config
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.typed_yaml import read_typed
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["BaseModel", "base_models", "find_base_model", "size_config"]

_TABLE = Path(__file__).with_suffix(".yaml")
# Entries of a config that change the size, by model type or name. A config with parts has `text_config`, for what
# differs from the shape in the table.
_OWN: dict[str, dict[str, Any]] = {
    "t5": {"feed_forward_proj": "gated-gelu"},
    "phi3": {"pad_token_id": None, "partial_rotary_factor": 0.75},
    "opt-350m": {"word_embed_proj_dim": 512, "do_layer_norm_before": False},
    "qwen3.5-0.8b": {
        "text_config": {"linear_num_value_heads": 16},
        "vision_config": {
            "depth": 12,
            "hidden_size": 768,
            "num_heads": 12,
            "intermediate_size": 3072,
            "out_hidden_size": 1024,
        },
    },
    "qwen3.5-4b": {
        "text_config": {"linear_num_value_heads": 32},
        "vision_config": {
            "depth": 24,
            "hidden_size": 1024,
            "num_heads": 16,
            "intermediate_size": 4096,
            "out_hidden_size": 2560,
        },
    },
    "gemma4": {
        "text_config": {
            "num_kv_shared_layers": 20,
            "use_double_wide_mlp": True,
            "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
        },
        "vision_config": {},
        "audio_config": {},
    },
    "lfm2": {"full_attn_idxs": [2, 5, 8, 10, 12, 14]},
    "mistral3": {
        "text_config": {"model_type": "ministral3"},
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 1540,
            "patch_size": 14,
        },
    },
    "granitemoehybrid": {
        "shared_intermediate_size": 8192,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "mamba_n_heads": 64,
        "mamba_d_state": 128,
        "layer_types": ["attention" if layer in (5, 15, 25, 35) else "mamba" for layer in range(40)],
        "embedding_multiplier": 12.0,
    },
    "gpt_oss": {"num_local_experts": 32},
}


@dataclass(frozen=True)
class BaseModel:
    """A base model.

    Attributes:
        hub_id: Id on the hub, or the name of a bundled model.
        licence: As the publisher names it.
        gated: Whether the licence must be accepted on the hub, and a token be set.
        parameters: Number of weights, tied ones counted once, without a new head.
        layers: Number of blocks; of an encoder-decoder, those of both.
        width: Size of the hidden states.
        heads: Attention heads of a block.
        kv_heads: Key and value heads of a block.
        feed_forward: Inner width of the feed-forward part.
        vocabulary: Rows of the embedding table.
        context: Maximum number of tokens.
        model_type: Name of the architecture in transformers.
        architecture: Class in transformers for the task of the recipes.
        active: Number of weights that a token passes through, with the embedding, where that is not all of them:
            without towers for images, idle experts and further embedding tables.
        head_width: Width of an attention head where it is not width / heads.
        is_tied: Whether the output layer is the embedding table.
        notes: What else to know, and what could not be checked.
    """

    hub_id: str
    licence: str
    gated: bool
    parameters: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int
    model_type: str
    architecture: str
    active: int | None = None
    head_width: int | None = None
    is_tied: bool = False
    notes: str = ""


@cache
def base_models() -> dict[str, BaseModel]:
    """Return all base models by name; the file is read once.

    Raises:
        ConfigError: If the file is wrong; the message gives each line and key.

    Example:
        >>> base_models()["llama-2-7b"].layers
        32
    """
    root = compose_config(_TABLE)
    assert root is not None, _TABLE
    return read_typed(dict[str, BaseModel], root, "", str(_TABLE))


def find_base_model(name: str) -> BaseModel:
    """Return the base model of a name.

    Raises:
        ConfigError: If there is none; the message gives the nearest name.
    """
    known = base_models()
    if name not in known:
        raise ConfigError(f"no base model {name!r}; {did_you_mean(name, known, 'one of ' + ', '.join(known))}")
    return known[name]


def size_config(name: str) -> PretrainedConfig:
    """Return the config of a base model as far as its size depends on it; nothing is downloaded.

    Args:
        name: Name in the table.

    Raises:
        ConfigError: If there is none.
    """
    import transformers

    entry = find_base_model(name)
    shape: dict[str, Any]
    if entry.model_type == "t5":
        shape = {
            "d_model": entry.width,
            "d_ff": entry.feed_forward,
            "d_kv": entry.width // entry.heads,
            "num_layers": entry.layers // 2,
            "num_decoder_layers": entry.layers // 2,
            "num_heads": entry.heads,
            "decoder_start_token_id": 0,
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
    shape |= {"vocab_size": entry.vocabulary, "tie_word_embeddings": entry.is_tied}
    own = {**_OWN.get(entry.model_type, {}), **_OWN.get(name, {})}
    if "text_config" in own:
        own["text_config"] = {**shape, **own["text_config"]}
        return transformers.AutoConfig.for_model(entry.model_type, tie_word_embeddings=entry.is_tied, **own)
    return transformers.AutoConfig.for_model(entry.model_type, **{**shape, **own})
