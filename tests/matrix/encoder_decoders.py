"""Rows: encoder-decoders. Each has two embeddings, whose tokens have lengths of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from matrix.rows import (
    BOS,
    EOS,
    IGNORED,
    PAD,
    SIZES,
    SPECIAL,
    Architecture,
    Batch,
    classes_batch,
    decoder_tokens,
    encoder_tokens,
    from_config,
    seq2seq_batch,
    seq2seq_batch_with_mask,
    tokens_by_name,
)

FAMILY = "Encoder-decoders"
BART_SIZES = {
    **SPECIAL,
    "decoder_start_token_id": EOS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
T5_SIZES = {
    **SPECIAL,
    "decoder_start_token_id": PAD,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
}

LED_SIZES = {
    **BART_SIZES,
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 64,
    "attention_window": 4,
}
BERT_ENCODER, BERT_DECODER = "encoder.embeddings.word_embeddings", "decoder.bert.embeddings.word_embeddings"


def _prompt(batch: Batch) -> Batch:
    return {key: batch[key] for key in ("input_ids", "attention_mask")}


def _row(
    name: str,
    model_type: str,
    prefix: str,
    sizes: dict[str, Any],
    head: str = "AutoModelForSeq2SeqLM",
    batch: Callable[[], Batch] = seq2seq_batch,
) -> Architecture:
    encoder, decoder = f"{prefix}encoder.embed_tokens", f"{prefix}decoder.embed_tokens"
    return Architecture(
        name=name,
        family=FAMILY,
        build=partial(from_config, head, model_type, sizes),
        batch=batch,
        expected=(encoder, decoder),
        tokens=tokens_by_name({encoder: encoder_tokens, decoder: decoder_tokens}),
        prompt=_prompt,
    )


def _classes(row: Architecture, name: str, prefix: str, model_type: str, sizes: dict[str, Any]) -> Architecture:
    # The decoder reads the encoder's tokens, shifted by one.
    encoder, decoder = f"{prefix}encoder.embed_tokens", f"{prefix}decoder.embed_tokens"
    return row.but(
        name,
        build=partial(from_config, "AutoModelForSequenceClassification", model_type, sizes),
        batch=classes_batch,
        expected=(encoder, decoder),
        tokens=tokens_by_name({encoder: encoder_tokens, decoder: encoder_tokens}),
        prompt=None,
    )


def _bert_to_bert() -> nn.Module:
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    sizes = SIZES | {"intermediate_size": 64}
    stacks = BertConfig(**sizes), BertConfig(**sizes, is_decoder=True, add_cross_attention=True)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*stacks)
    config.decoder_start_token_id, config.pad_token_id = BOS, PAD
    model: nn.Module = EncoderDecoderModel(config)
    return model


def _decoder_ids_batch() -> Batch:
    """The decoder's tokens given as such, with their mask."""
    batch = seq2seq_batch_with_mask()
    ids = batch["labels"].masked_fill(batch["labels"] == IGNORED, PAD)
    return batch | {"decoder_input_ids": ids}


def _shifted_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss outside of the model, which warns of a change of long ago when it computes one."""
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    return nn.functional.cross_entropy(logits[:, :-1].mT, batch["labels"][:, 1:], ignore_index=IGNORED), logits


def _speech_batch() -> Batch:
    features = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(3))
    return {"input_features": features, "labels": seq2seq_batch()["labels"]}


def _speech_prompt(batch: Batch) -> Batch:
    return {"input_features": batch["input_features"]}


T5 = _row("T5", "t5", "", T5_SIZES, batch=seq2seq_batch_with_mask)
BART = _row("BART", "bart", "model.", BART_SIZES)
ROWS = [
    T5,
    _classes(T5, "T5, classification head", "transformer.", "t5", T5_SIZES),
    _row("mT5", "mt5", "", T5_SIZES),
    BART,
    _classes(BART, "BART, classification head", "model.", "bart", BART_SIZES),
    _row("mBART", "mbart", "model.", BART_SIZES | {"scale_embedding": True}),
    _row("Pegasus", "pegasus", "model.", BART_SIZES | {"scale_embedding": True}),
    _row("Marian", "marian", "model.", BART_SIZES | {"scale_embedding": True}),
    _row("M2M100 (NLLB)", "m2m_100", "model.", BART_SIZES, batch=seq2seq_batch_with_mask),
    Architecture(
        name="Whisper",
        family=FAMILY,
        build=partial(
            from_config,
            "AutoModelForSpeechSeq2Seq",
            "whisper",
            BART_SIZES | {"max_source_positions": 10, "max_target_positions": 64, "num_mel_bins": 8},
        ),
        batch=_speech_batch,
        expected=("model.decoder.embed_tokens",),
        tokens=tokens_by_name({"model.decoder.embed_tokens": decoder_tokens}),
        prompt=_speech_prompt,
    ),
    _row("LED", "led", "led.", LED_SIZES),
    # The encoder embeds its own padding, up to a multiple of the window, in a call of its own: pad in the collator
    # (pad_to_multiple_of).
    _row("LED", "led", "led.", LED_SIZES | {"attention_window": 16}).but(
        "LED, text no multiple of the window", error="led.encoder.embed_tokens was called with tokens of shape (3, 4)"
    ),
    Architecture(
        name="EncoderDecoderModel, BERT to BERT",
        family=FAMILY,
        build=_bert_to_bert,
        batch=_decoder_ids_batch,
        forward=_shifted_loss,
        expected=(BERT_ENCODER, BERT_DECODER),
        tokens=tokens_by_name({BERT_ENCODER: encoder_tokens, BERT_DECODER: decoder_tokens}),
        prompt=_prompt,
    ),
]
