"""Rows: modules that are not from transformers, and models that bring embeddings of their own (`inputs_embeds`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from matrix.rows import (
    DECODER_LENGTHS,
    IGNORED,
    LENGTHS,
    VOCABULARY,
    WIDTH,
    Architecture,
    Batch,
    causal_batch,
    classes_batch,
    encoder_tokens,
    mask_of,
    token_ids,
    tokens_by_name,
)

PLAIN, FED = "Other modules", "Models fed embeddings"
DIM = 32


class Encoder(nn.Module):
    """Token and position tables before `nn.TransformerEncoder`, a mean over tokens, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, DIM, padding_idx=0)
        self.positions = nn.Embedding(64, DIM)
        layer = nn.TransformerEncoderLayer(DIM, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(DIM, 2)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1]))
        hidden = self.encoder(hidden, src_key_padding_mask=attention_mask == 0)
        weights = attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        pooled: Tensor = (hidden * weights).sum(1)
        return pooled

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(self.encode(input_ids, attention_mask))
        return F.cross_entropy(logits, labels), logits


class Retriever(Encoder):
    """Queries and documents through one embedding: two calls, of two widths, in one forward pass."""

    def forward(  # type: ignore[override]
        self, query_input_ids: Tensor, query_attention_mask: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        queries = self.encode(query_input_ids, query_attention_mask)
        scores = queries @ self.encode(input_ids, attention_mask).T
        return F.cross_entropy(scores, torch.arange(len(scores))), scores


class Siamese(Encoder):
    """Two texts of one width through one embedding: only the ids tell which call is which."""

    def forward(  # type: ignore[override]
        self, input_ids_a: Tensor, attention_mask_a: Tensor, input_ids_b: Tensor, attention_mask_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        scores = self.encode(input_ids_a, attention_mask_a) @ self.encode(input_ids_b, attention_mask_b).T
        return F.cross_entropy(scores, torch.arange(len(scores))), scores


class Checkpointed(Encoder):
    """Recomputes everything in backward, the embedding included."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # Reentrant checkpointing keeps the graph only if an input needs a gradient.
        start = torch.zeros((), requires_grad=True)
        pooled = checkpoint(self._encode, start, input_ids, attention_mask, use_reentrant=self.use_reentrant)
        logits = self.head(pooled)
        return F.cross_entropy(logits, labels), logits

    def _encode(self, start: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encode(input_ids, attention_mask) + start


class FedEmbeddings(nn.Module):
    """A Llama that gets `inputs_embeds` from a layer of its owner, as a model over signals or mixed modalities does."""

    def __init__(self) -> None:
        super().__init__()
        from matrix.decoders import LLAMA

        self.signal = nn.Linear(VOCABULARY, DIM)
        self.model = LLAMA.build()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.signal(F.one_hot(input_ids, VOCABULARY).float())
        output = self.model(inputs_embeds=features, attention_mask=attention_mask, labels=labels)
        return output.loss, output.logits


class OwnLookup(FedEmbeddings):
    """Reads the embedding's weight without calling the embedding."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        features = F.embedding(input_ids, self.model.get_parameter("model.embed_tokens.weight"))
        output = self.model(inputs_embeds=features, attention_mask=attention_mask, labels=labels)
        return output.loss, output.logits


def build_litgpt() -> nn.Module:
    """LitGPT's own GPT; it has no attention mask and no labels."""
    from litgpt.config import Config
    from litgpt.model import GPT

    sizes = {"vocab_size": VOCABULARY, "padded_vocab_size": VOCABULARY, "block_size": 64}
    model: nn.Module = GPT(Config(n_layer=2, n_head=4, n_embd=DIM, **sizes))
    return model


def own_forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Modules here return loss and logits themselves."""
    loss, logits = model(**batch)
    return loss, logits


def litgpt_forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    logits = model(batch["input_ids"])
    return F.cross_entropy(logits[:, :-1].mT, batch["labels"][:, 1:], ignore_index=IGNORED), logits


def pairs_batch() -> Batch:
    query_width = max(DECODER_LENGTHS)
    return {
        "query_input_ids": token_ids(DECODER_LENGTHS, query_width, seed=5),
        "query_attention_mask": mask_of(DECODER_LENGTHS, query_width),
        "input_ids": token_ids(LENGTHS, WIDTH, seed=6),
        "attention_mask": mask_of(LENGTHS, WIDTH),
    }


def pairs_of_one_width_batch() -> Batch:
    return {
        "input_ids_a": token_ids(LENGTHS, WIDTH, seed=5),
        "attention_mask_a": mask_of(LENGTHS, WIDTH),
        "input_ids_b": token_ids(LENGTHS[::-1], WIDTH, seed=6),
        "attention_mask_b": mask_of(LENGTHS[::-1], WIDTH),
    }


def pairs_tokens() -> Mapping[str, Sequence[Tensor]]:
    return {"tokens": [mask_of(DECODER_LENGTHS, max(DECODER_LENGTHS)) == 1, encoder_tokens()]}


def pairs_of_one_width_tokens() -> Mapping[str, Sequence[Tensor]]:
    return {"tokens": [encoder_tokens(), encoder_tokens().flip(0)]}


ENCODER = Architecture(
    name="nn.Embedding and nn.TransformerEncoder",
    family=PLAIN,
    build=Encoder,
    batch=classes_batch,
    expected=("tokens",),
    forward=own_forward,
)
FED_EMBEDDINGS = Architecture(
    name="inputs_embeds from a layer, without a target",
    family=FED,
    build=FedEmbeddings,
    batch=causal_batch,
    expected=("model.model.embed_tokens",),
    forward=own_forward,
    error="model.model.embed_tokens was never called. If the model gets inputs_embeds",
)
ROWS = [
    ENCODER,
    ENCODER.but("Embedding called twice, two widths", build=Retriever, batch=pairs_batch, tokens=pairs_tokens),
    ENCODER.but(
        "Embedding called twice, one width",
        build=Siamese,
        batch=pairs_of_one_width_batch,
        tokens=pairs_of_one_width_tokens,
    ),
    ENCODER.but("Embedding inside a checkpoint, not reentrant", build=lambda: Checkpointed(use_reentrant=False)),
    ENCODER.but(
        "Embedding inside a checkpoint, reentrant",
        build=lambda: Checkpointed(use_reentrant=True),
        error="tokens ran only with gradients disabled",
    ),
    Architecture(
        name="LitGPT",
        family=PLAIN,
        build=build_litgpt,
        batch=causal_batch,
        expected=("transformer.wte",),
        forward=litgpt_forward,
        needs="litgpt",
    ),
    FED_EMBEDDINGS,
    FED_EMBEDDINGS.but(
        "inputs_embeds from a layer, target='signal'",
        target="signal",
        expected=("signal",),
        tokens=tokens_by_name({"signal": encoder_tokens}),
        error=None,
    ),
    FED_EMBEDDINGS.but("inputs_embeds looked up past the embedding", build=OwnLookup),
]
