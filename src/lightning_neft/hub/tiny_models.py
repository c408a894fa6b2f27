"""Tiny random models of the recipes' architectures, for 2-step smoke tests. Heavy imports are late."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft.common.files import new_folder
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TINY", "TINY_MODEL_TYPES", "save_tiny_model", "tiny_model"]

# The bundled model.
TINY = Path(__file__).with_name("tiny_llama")
# Increase it whenever the same table entry would produce a different folder.
_VERSION = 1
_SEED = 20231009
_POSITIONS = 512
# Markers that no template of this package uses: ChatML's must be added to this tokenizer, as to that of most bases.
_CHAT_MARKERS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class _Tiny:
    """The tiny version of a model type.

    Attributes:
        config: Entries of its config; vocabulary size and special tokens are added, to its `text_config` if it has one.
        auto_class: Auto class in transformers for pretrained models of this type.
        lead: Whether its tokenizer puts the beginning-of-sequence token before a text.
        end: Whether its tokenizer appends the end token to a text.
        unknown: The unknown token, where the tokenizer class of transformers would otherwise add one.
    """

    config: dict[str, Any] = field(default_factory=dict)
    auto_class: str = "AutoModelForCausalLM"
    lead: bool = True
    end: bool = False
    unknown: str | None = None


_WIDTH = 32
_DECODER = {
    "hidden_size": _WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": _POSITIONS,
}
_ENCODER = {key: value for key, value in _DECODER.items() if key != "num_key_value_heads"}
# Peculiarities of an architecture are kept, above all a scaled embedding, or one narrower than the model.
_TINY: dict[str, _Tiny] = {
    "llama": _Tiny(_DECODER),
    "mistral": _Tiny(_DECODER | {"sliding_window": 64}),
    "opt": _Tiny(
        {
            "hidden_size": _WIDTH,
            "word_embed_proj_dim": 16,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": _POSITIONS,
            "do_layer_norm_before": False,
        }
    ),
    "qwen3": _Tiny(_DECODER | {"head_dim": 8}, lead=False),
    "gemma3_text": _Tiny(
        _DECODER | {"head_dim": 8, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
    ),
    "granite": _Tiny(
        _DECODER
        | {
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.125,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
        },
        lead=False,
    ),
    "phi3": _Tiny(_DECODER | {"partial_rotary_factor": 0.75}, lead=False),
    "smollm3": _Tiny(_DECODER | {"no_rope_layers": [1, 0]}, lead=False),
    "olmo3": _Tiny(
        _DECODER | {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}, lead=False
    ),
    # Wider weights, or it would repeat the last token of the prompt, a mark of the chat template.
    "lfm2": _Tiny(_DECODER | {"full_attn_idxs": [1], "block_auto_adjust_ff_dim": False, "initializer_range": 0.2}),
    "granitemoehybrid": _Tiny(
        _DECODER
        | {
            "shared_intermediate_size": 64,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "mamba_chunk_size": 32,
            "layer_types": ["mamba", "attention"],
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.125,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
        },
        lead=False,
    ),
    "gpt_oss": _Tiny(
        _DECODER
        | {
            "head_dim": 8,
            "sliding_window": 64,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        lead=False,
    ),
    "qwen3_5": _Tiny(
        {
            "text_config": _DECODER
            | {
                "head_dim": 8,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "layer_types": ["linear_attention", "full_attention"],
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [1, 1, 0],
                    "partial_rotary_factor": 0.5,
                },
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_heads": 2,
                "patch_size": 4,
                "out_hidden_size": _WIDTH,
                "num_position_embeddings": 16,
            },
        },
        auto_class="AutoModelForImageTextToText",
        lead=False,
        unknown="<pad>",
    ),
    "gemma4": _Tiny(
        {
            "text_config": _DECODER
            | {
                "num_hidden_layers": 4,
                "num_kv_shared_layers": 2,
                "head_dim": 8,
                "per_layer_config": {"1": {"head_dim": 16}, "3": {"head_dim": 16}},
                "hidden_size_per_layer_input": 4,
                "use_double_wide_mlp": True,
                "sliding_window": 64,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "patch_size": 4,
                "position_embedding_size": 16,
            },
            "audio_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "subsampling_conv_channels": [4, 2],
                "output_proj_dims": 16,
            },
        },
        auto_class="AutoModelForImageTextToText",
    ),
    "mistral3": _Tiny(
        {
            "text_config": _DECODER | {"model_type": "ministral3", "head_dim": 8},
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 16,
                "patch_size": 4,
            },
        },
        auto_class="AutoModelForImageTextToText",
    ),
    "t5": _Tiny(
        {
            "d_model": _WIDTH,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
        },
        auto_class="AutoModelForSeq2SeqLM",
        lead=False,
        end=True,
    ),
    "modernbert": _Tiny(
        _ENCODER | {"local_attention": 64, "layer_types": ["full_attention", "sliding_attention"]},
        auto_class="AutoModelForMaskedLM",
        end=True,
    ),
    "bert": _Tiny(_ENCODER, auto_class="AutoModelForMaskedLM", end=True),
}
TINY_MODEL_TYPES: tuple[str, ...] = tuple(_TINY)
"""The model types of transformers that have a tiny model."""


def save_tiny_model(model_type: str, folder: Path, *, is_tied: bool | None = None) -> None:
    """Write a tiny model with random weights and a matching tokenizer as a folder for `from_pretrained`.

    The weights are always the same, and no global random state changes. The tokenizer has the vocabulary of the bundled
    model, a chat template, and adds the same special tokens to a text as others of this type.

    Args:
        model_type: Transformers' name of the architecture, one of `TINY_MODEL_TYPES`.
        folder: The folder to write, which must not exist.
        is_tied: Whether the output layer is the embedding table; by default as usual for the model type.

    Raises:
        ModelError: If there is no tiny model of this type.
    """
    import torch
    import transformers

    tiny = _tiny(model_type)
    tokenizer = _tokenizer(tiny)
    special: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if model_type == "t5":
        special["decoder_start_token_id"] = tokenizer.pad_token_id
    if tiny.auto_class == "AutoModelForMaskedLM":
        special |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    if is_tied is not None:
        special["tie_word_embeddings"] = is_tied
    special["vocab_size"] = len(tokenizer)
    entries = {**tiny.config, **({"tie_word_embeddings": is_tied} if is_tied is not None else {})}
    if model_type == "gemma4":
        special["vocab_size_per_layer_input"] = len(tokenizer)
    if "text_config" in entries:
        entries["text_config"] = {**entries["text_config"], **special}
    else:
        entries |= special
    config = transformers.AutoConfig.for_model(model_type, **entries)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = getattr(transformers, tiny.auto_class).from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_model(model_type: str, cache: Path, *, is_tied: bool | None = None) -> Path:
    """Return the folder of a tiny model in a cache; the first call writes it, whole or not at all.

    Several processes may call it at once: the folder of the first to finish stays.

    Args:
        model_type: See `save_tiny_model`.
        cache: The folder of all tiny models.
        is_tied: See `save_tiny_model`.

    Raises:
        ModelError: If there is no tiny model of this type, or the cache cannot be written to.
    """
    folder = cache / f"{model_type}-{_digest(_tiny(model_type), is_tied)}"
    if folder.is_dir():
        return folder
    try:
        with new_folder(folder) as fresh:
            save_tiny_model(model_type, fresh, is_tied=is_tied)
            try:
                fresh.replace(folder)
            except OSError:
                if not folder.is_dir():  # no other process was faster
                    raise
    except OSError as error:
        raise ModelError(
            f"tiny model cannot be written to {cache}: {error.strerror or error}; give another folder (data.cache_dir)"
        ) from error
    return folder


def _tiny(model_type: str) -> _Tiny:
    if model_type not in _TINY:
        hint = did_you_mean(model_type, _TINY)
        raise ModelError(f"no tiny model of type {model_type!r}; {hint and f'{hint} '}types: {', '.join(_TINY)}")
    return _TINY[model_type]


def _digest(tiny: _Tiny, is_tied: bool | None) -> str:
    """Return a digest of everything that determines the folder: the entry and the code that writes it."""
    import torch
    import transformers

    rules = (TINY / "tokenizer.json").read_text(encoding="utf-8")
    made_by = [_VERSION, _SEED, _CHAT_MARKERS, _CHAT_TEMPLATE, rules, transformers.__version__, torch.__version__]
    return hashlib.sha256(json.dumps([asdict(tiny), is_tied, *made_by]).encode()).hexdigest()[:16]


def _tokenizer(tiny: _Tiny) -> PreTrainedTokenizerBase:
    """Return the bundled tokenizer with a chat template, which adds special tokens as this type does."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_special_tokens({"extra_special_tokens": list(_CHAT_MARKERS)})
    begin, end = tokenizer.bos_token, tokenizer.eos_token
    before, behind = [f"{begin}:0"] if tiny.lead else [], [f"{end}:0"] if tiny.end else []
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*before, "$A:0", *behind],
        pair=[*before, "$A:0", *behind, "$B:0", *behind],
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in (begin, end)],
    )
    if tiny.auto_class == "AutoModelForMaskedLM":
        tokenizer.cls_token, tokenizer.sep_token = begin, end
    if tiny.unknown is not None:
        tokenizer.unk_token = tiny.unknown
    tokenizer.model_max_length = _POSITIONS
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer
