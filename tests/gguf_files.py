"""GGUF files of the bundled model, written with the package gguf as llama.cpp writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from lightning_neft.hub.tiny_models import TINY

# llama.cpp's names of the parts of a block.
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_CONTROL, _NORMAL = 3, 1


def write_gguf(path: Path, quantization: str = "Q4_1", metadata: Mapping[str, Any] | None = None) -> Path:
    """Write the bundled model as a GGUF file, its matrices quantised.

    Args:
        path: The file.
        quantization: Name of a type of the package gguf that it can quantise, such as Q4_1, Q8_0 or F32.
        metadata: Further strings and numbers of the file.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quantize

    config = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    rules = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    writer = GGUFWriter(path, "llama")
    prefix = "ALL_" if quantization == "F32" else "MOSTLY_"
    writer.add_file_type(LlamaFileType[f"{prefix}{quantization}"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    tokens = sorted(rules["vocab"], key=rules["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in ("<s>", "</s>", "<pad>") else _NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in rules["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(True)
    for key, value in (metadata or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    kind = GGMLQuantizationType[quantization]
    for name, weights in load_file(TINY / "model.safetensors").items():
        short, of_file = name.removeprefix("model."), weights
        if short.endswith(("q_proj.weight", "k_proj.weight")):
            of_file = _interleaved(weights, config["num_attention_heads"])
        if of_file.ndim == 1:
            writer.add_tensor(_name(short), of_file.astype(np.float32))
        else:
            writer.add_tensor(_name(short), quantize(of_file.astype(np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _name(name: str) -> str:
    if not name.startswith("layers."):
        return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]
    _, layer, part = name.split(".", 2)
    return f"blk.{layer}.{_NAMES[part.removesuffix('.weight')]}.weight"


def _interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Return the rows in llama.cpp's order, which rotates neighbours instead of halves."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
