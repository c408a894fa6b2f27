"""Rows: language models with a decoder alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from matrix.rows import SIZES, VOCABULARY, Architecture, causal_batch, classes_batch, from_config, text_prompt

FAMILY = "Decoders"
GATED: dict[str, Any] = {"intermediate_size": 64}
GROUPED: dict[str, Any] = {"intermediate_size": 64, "num_key_value_heads": 2}
# Two tables of tokens: the second feeds each block and gets no noise. The last two blocks reuse keys and values.
GEMMA4: dict[str, Any] = {
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "head_dim": 8,
    "per_layer_config": {"1": {"head_dim": 16}, "3": {"head_dim": 16}},
    "hidden_size_per_layer_input": 4,
    "vocab_size_per_layer_input": VOCABULARY,
    "sliding_window": 8,
}
QWEN3_5: dict[str, Any] = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}


def _row(name: str, model_type: str, embedding: str = "model.embed_tokens", **sizes: Any) -> Architecture:
    return Architecture(
        name=name,
        family=FAMILY,
        build=partial(from_config, "AutoModelForCausalLM", model_type, SIZES | sizes),
        batch=causal_batch,
        expected=(embedding,),
        prompt=text_prompt,
    )


LLAMA = _row("Llama", "llama", **GROUPED)
ROWS = [
    LLAMA,
    LLAMA.but("Llama, padding on the left", batch=partial(causal_batch, left=True), prompt=None),
    LLAMA.but(
        "Llama, classification head",
        build=partial(from_config, "AutoModelForSequenceClassification", "llama", SIZES | GROUPED),
        batch=classes_batch,
        prompt=None,
    ),
    _row("Llama, tied head", "llama", **GROUPED, tie_word_embeddings=True),
    _row("Mistral", "mistral", **GROUPED, head_dim=8),
    _row("Mixtral", "mixtral", **GROUPED, num_local_experts=4),
    _row("Qwen 2", "qwen2", **GROUPED),
    _row("Qwen 3", "qwen3", **GROUPED, head_dim=8),
    _row("Gemma 2", "gemma2", **GROUPED, head_dim=8),
    _row("Gemma 3, text", "gemma3_text", **GROUPED, head_dim=8),
    _row("Granite", "granite", **GROUPED, embedding_multiplier=12.0),
    _row("Phi-3", "phi3", **GROUPED),
    # The embedding is narrower than the model: d of alpha / sqrt(L d) is the embedding's.
    _row("OPT", "opt", "model.decoder.embed_tokens", word_embed_proj_dim=16, ffn_dim=64, do_layer_norm_before=False),
    _row("GPT-2", "gpt2", "transformer.wte", embd_pdrop=0.0),
    _row("GPT-NeoX", "gpt_neox", "gpt_neox.embed_in", **GATED),
    _row("BLOOM", "bloom", "transformer.word_embeddings"),
    _row("Falcon", "falcon", "transformer.word_embeddings"),
    _row(
        "Falcon-H1",
        "falcon_h1",
        **GROUPED,
        embedding_multiplier=5.0,
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_chunk_size=8,
    ),
    _row("MPT", "mpt", "transformer.wte"),
    _row("StableLM", "stablelm", **GROUPED),
    _row("SmolLM3", "smollm3", **GROUPED, no_rope_layers=[1, 0]),
    _row("OLMo 2", "olmo2", **GROUPED),
    _row("OLMo 3", "olmo3", **GROUPED, layer_types=["sliding_attention", "full_attention"], sliding_window=8),
    _row("Ministral 3, text", "ministral3", **GROUPED, head_dim=8),
    _row("Gemma 4, text", "gemma4_text", **GROUPED, **GEMMA4),
    _row("Qwen 3.5, text", "qwen3_5_text", **GROUPED, **QWEN3_5),
    _row("LFM2", "lfm2", **GROUPED, full_attn_idxs=[1], block_auto_adjust_ff_dim=False),
    _row("gpt-oss", "gpt_oss", **GROUPED, head_dim=8, num_local_experts=4, num_experts_per_tok=2),
    _row(
        "Granite 4, hybrid",
        "granitemoehybrid",
        **GROUPED,
        shared_intermediate_size=64,
        num_local_experts=0,
        num_experts_per_tok=0,
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_chunk_size=8,
        layer_types=["mamba", "attention"],
        embedding_multiplier=12.0,
    ),
    _row(
        "DeepSeek-V3",
        "deepseek_v3",
        intermediate_size=64,
        num_key_value_heads=4,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
    ),
    _row("Mamba-2", "mamba2", "backbone.embeddings", num_heads=8, head_dim=8, state_size=8, n_groups=2, chunk_size=8),
]
