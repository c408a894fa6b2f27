"""Rows: encoders, with a head that classifies and with one that fills masks."""

from __future__ import annotations

from functools import partial
from typing import Any

from matrix.rows import SIZES, Architecture, classes_batch, from_config, masked_batch

FAMILY = "Encoders"


def _rows(name: str, model_type: str, embedding: str, **sizes: Any) -> list[Architecture]:
    masked = Architecture(
        name=f"{name}, masked LM",
        family=FAMILY,
        build=partial(from_config, "AutoModelForMaskedLM", model_type, SIZES | {"intermediate_size": 64} | sizes),
        batch=masked_batch,
        expected=(embedding,),
    )
    build = partial(
        from_config, "AutoModelForSequenceClassification", model_type, SIZES | {"intermediate_size": 64} | sizes
    )
    return [masked, masked.but(f"{name}, classification head", build=build, batch=classes_batch)]


ROWS = [
    *_rows("BERT", "bert", "bert.embeddings.word_embeddings"),
    *_rows("RoBERTa", "roberta", "roberta.embeddings.word_embeddings", type_vocab_size=1),
    *_rows("DistilBERT", "distilbert", "distilbert.embeddings.word_embeddings", hidden_dim=64),
    *_rows("ModernBERT", "modernbert", "model.embeddings.tok_embeddings", cls_token_id=3, sep_token_id=4),
    *_rows("DeBERTa-v2", "deberta-v2", "deberta.embeddings.word_embeddings", relative_attention=True),
    *_rows("ESM-2", "esm", "esm.embeddings.word_embeddings", mask_token_id=4, token_dropout=True),
    # Lengthens its input to 16, the next multiple of the window, before it embeds it.
    *_rows("Longformer", "longformer", "longformer.embeddings.word_embeddings", attention_window=16),
    # Its embedding returns the quantised output and the factor to scale it with.
    _rows("I-BERT", "ibert", "ibert.embeddings.word_embeddings")[0].but(
        "I-BERT, masked LM", error="ibert.embeddings.word_embeddings returned tuple, not a floating tensor"
    ),
    # Embeds characters by the sum of eight hashed tables.
    _rows("CANINE", "canine", "")[1].but(
        "CANINE, classification head", error="has several embeddings that could be for tokens"
    ),
]
