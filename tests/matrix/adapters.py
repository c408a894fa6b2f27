"""Rows: PEFT's ways to fine-tune, tied and untied heads, and activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from matrix.decoders import LLAMA
from matrix.decoders import ROWS as DECODERS
from matrix.encoder_decoders import BART, T5
from matrix.encoders import ROWS as ENCODERS
from matrix.rows import (
    Architecture,
    encoder_tokens,
    tokens_by_name,
)

FAMILY, CHECKPOINTING = "PEFT", "Activation checkpointing"
ROWS_BY_NAME = {row.name: row for row in [*DECODERS, *ENCODERS]}
TIED = ROWS_BY_NAME["Llama, tied head"]
BERT = ROWS_BY_NAME["BERT, classification head"]
EMBEDDING = "base_model.model.model.embed_tokens"


def _adapted(row: Architecture, config: str, options: dict[str, Any]) -> nn.Module:
    import peft

    model: nn.Module = peft.get_peft_model(row.build(), getattr(peft, config)(**options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # B starts as zero: LoRA on the embedding would be no part of what it returns.
            if "lora_B" in name or "lora_embedding_B" in name:
                parameter.normal_(std=0.02)
    return model


def _row(
    name: str, config: str, base: Architecture = LLAMA, embedding: str = EMBEDDING, **options: Any
) -> Architecture:
    return base.but(
        name,
        family=FAMILY,
        build=partial(_adapted, base, config, {"task_type": "CAUSAL_LM"} | options),
        expected=(embedding,),
        tokens=tokens_by_name({embedding: encoder_tokens}),
    )


def _seq2seq(name: str, base: Architecture, prefix: str) -> Architecture:
    row = _row(name, "LoraConfig", base, task_type="SEQ_2_SEQ_LM", r=4)
    expected = tuple(f"{prefix}{embedding}" for embedding in base.expected)
    masks = {} if base.tokens is None else base.tokens()
    return row.but(
        name, expected=expected, tokens=lambda: dict(zip(expected, masks.values(), strict=True)), prompt=base.prompt
    )


def _checkpointed(build: Callable[[], nn.Module], use_reentrant: bool) -> nn.Module:
    model: Any = build()
    # transformers renames it; the old name warns from 5.23 on.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    return model  # type: ignore[no-any-return]


def _checkpointing(row: Architecture, use_reentrant: bool) -> Architecture:
    kind = "reentrant" if use_reentrant else "not reentrant"
    build = partial(_checkpointed, row.build, use_reentrant)
    return row.but(f"{row.name}, checkpointed, {kind}", family=CHECKPOINTING, build=build, train=True)


LORA = _row("LoRA", "LoraConfig", r=4)
PLAIN_EMBEDDING = "base_model.model.embed_tokens"
ROWS = [
    LORA,
    _row("LoRA, tied head", "LoraConfig", TIED, r=4),
    _row("DoRA", "LoraConfig", r=4, use_dora=True),
    _row("LoRA, embedding in modules_to_save", "LoraConfig", r=4, modules_to_save=["embed_tokens"]),
    _row(
        "LoRA, tied head and embedding in modules_to_save",
        "LoraConfig",
        TIED,
        r=4,
        modules_to_save=["embed_tokens"],
        ensure_weight_tying=True,
    ),
    _row("LoRA on the embedding", "LoraConfig", r=4, target_modules=["embed_tokens", "q_proj"]),
    _row("DoRA on the embedding", "LoraConfig", r=4, use_dora=True, target_modules=["embed_tokens", "q_proj"]),
    _row("Trainable tokens", "LoraConfig", r=4, trainable_token_indices=[5, 6, 7]),
    _row("Trainable tokens, tied head", "LoraConfig", TIED, r=4, trainable_token_indices=[5, 6, 7]),
    _row("IA3", "IA3Config"),
    _row("Prompt tuning", "PromptTuningConfig", embedding="base_model.model.embed_tokens", num_virtual_tokens=3),
    _row(
        "P-tuning",
        "PromptEncoderConfig",
        embedding="base_model.model.embed_tokens",
        num_virtual_tokens=3,
        encoder_hidden_size=16,
    ),
    _row("Prefix tuning", "PrefixTuningConfig", embedding="base_model.model.embed_tokens", num_virtual_tokens=3),
    _row(
        "LoRA, classification head on BERT",
        "LoraConfig",
        BERT,
        "base_model.model.bert.embeddings.word_embeddings",
        task_type="SEQ_CLS",
        r=4,
    ),
    _seq2seq("LoRA on T5", T5, "base_model.model."),
    _seq2seq("LoRA on BART", BART, "base_model.model."),
    *(_checkpointing(row, reentrant) for row in (LLAMA, LORA) for reentrant in (True, False)),
]
