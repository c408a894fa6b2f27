"""What one row of the table is, and the batches that rows share: uneven lengths, padding, labels on a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY, PAD, BOS, EOS, IMAGE = 100, 0, 1, 2, 99
LENGTHS, WIDTH = (12, 7, 4), 12
DECODER_LENGTHS, DECODER_WIDTH = (9, 5, 6), 9
IGNORED = -100

Batch = dict[str, Tensor]
# Of each embedding, by name, the mask (B, L) of the tokens in each of its calls: worked out from the batch's own
# lengths, not with the package.
Tokens = Callable[[], Mapping[str, Sequence[Tensor]]]

# Sizes of the tiny models, in the names that most configs answer to.
SPECIAL = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
SIZES = {
    **SPECIAL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss and logits as models of transformers give them."""
    output = model(**batch)
    return output.loss, output.logits


def text_prompt(batch: Batch) -> Batch:
    """What `generate` gets: the first tokens of each row, as many as the shortest has."""
    shortest = min(LENGTHS)
    return {key: batch[key][:, :shortest] for key in ("input_ids", "attention_mask")}


@dataclass(frozen=True)
class Architecture:
    """One row.

    Attributes:
        name: What people call it; the key of the row.
        family: Heading under which it is listed.
        build: Makes the model, on random weights; seeded by the caller.
        batch: Makes a training batch.
        expected: Names of the modules that are to get noise.
        tokens: See `Tokens`; None for one call of the only expected module on `attention_mask`.
        forward: From model and batch to loss and logits.
        prompt: From a batch to what `generate` takes; None for a model that does not generate.
        target: `target=` of the noise.
        error: For a row that shows a limit: part of the message of the error that has to come.
        train: Whether the checks run in training mode, as activation checkpointing needs; dropout is 0.
        needs: A package that is not among the dependencies.
        slots: For a model that reads images: the first block, and the mask (B, L) of the image slots.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    expected: tuple[str, ...]
    tokens: Tokens | None = None
    forward: Callable[[nn.Module, Batch], tuple[Tensor, Tensor]] = forward
    prompt: Callable[[Batch], dict[str, Any]] | None = None
    target: str | None = None
    error: str | None = None
    train: bool = False
    needs: str | None = None
    slots: tuple[str, Callable[[], Tensor]] | None = None

    def but(self, name: str, **changes: Any) -> Architecture:
        """The same row under another name with some attributes changed."""
        return replace(self, name=name, **changes)


def mask_of(lengths: Sequence[int], width: int) -> Tensor:
    """1 for tokens and 0 for padding on the right, (B, width)."""
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def token_ids(lengths: Sequence[int], width: int, seed: int) -> Tensor:
    """Random ids (B, width), none of them special but a last EOS in each row, then padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 90, (len(lengths), width), generator=generator)
    for row, length in enumerate(lengths):
        ids[row, length - 1] = EOS
        ids[row, length:] = PAD
    return ids


def causal_batch(left: bool = False) -> Batch:
    """Text for a decoder: labels are ignored on the first two tokens of each row and on padding."""
    ids, mask = token_ids(LENGTHS, WIDTH, seed=1), mask_of(LENGTHS, WIDTH)
    labels = torch.where((mask == 1) & (torch.arange(WIDTH) >= 2), ids, IGNORED)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {key: _to_left(value) for key, value in batch.items()} if left else batch


def _to_left(values: Tensor) -> Tensor:
    return torch.stack([row.roll(WIDTH - length) for row, length in zip(values, LENGTHS, strict=True)])


def masked_batch() -> Batch:
    """Text for a masked-LM head: every third token has a label."""
    batch = causal_batch()
    has_label = (batch["attention_mask"] == 1) & (torch.arange(WIDTH) % 3 == 0)
    return batch | {"labels": torch.where(has_label, batch["input_ids"], IGNORED)}


def classes_batch() -> Batch:
    """Text with one class a row."""
    return causal_batch() | {"labels": torch.tensor([0, 1, 1])}


def seq2seq_batch() -> Batch:
    """Text for an encoder-decoder, whose two sides have different lengths and widths; padding only by labels."""
    ids, mask = token_ids(LENGTHS, WIDTH, seed=1), mask_of(LENGTHS, WIDTH)
    targets = token_ids(DECODER_LENGTHS, DECODER_WIDTH, seed=2)
    labels = torch.where(mask_of(DECODER_LENGTHS, DECODER_WIDTH) == 1, targets, IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def seq2seq_batch_with_mask() -> Batch:
    """The same with the decoder's tokens told by a mask of their own."""
    return seq2seq_batch() | {"decoder_attention_mask": mask_of(DECODER_LENGTHS, DECODER_WIDTH)}


def encoder_tokens() -> Tensor:
    return mask_of(LENGTHS, WIDTH) == 1


def decoder_tokens() -> Tensor:
    return mask_of(DECODER_LENGTHS, DECODER_WIDTH) == 1


def tokens_by_name(masks: Mapping[str, Callable[[], Tensor]]) -> Tokens:
    """Tokens of embeddings that are called once each."""
    return partial(_tokens_by_name, masks)


def _tokens_by_name(masks: Mapping[str, Callable[[], Tensor]]) -> dict[str, list[Tensor]]:
    return {name: [mask()] for name, mask in masks.items()}


def from_config(head: str, model_type: str, sizes: Mapping[str, Any]) -> nn.Module:
    """A model of transformers on random weights, by the name of its automatic class and of its config."""
    import transformers
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type, **sizes)
    model: nn.Module = getattr(transformers, head).from_config(config)
    return model
