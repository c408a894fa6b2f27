"""From a training batch to the rows of tokens in it: who is padding, which document is how long, who gets noise.

Understood without help: mappings (dict, BatchEncoding), dataclasses (with slots too), attrs classes, named tuples and
other objects with attributes, at any depth, and tuples or lists of these. Recognised fields, by their exact names:
input_ids, attention_mask, position_ids, labels, cu_seqlens (also cu_seq_lens and both with `_q`), seq_idx, seq_ids,
sequence_ids, document_ids (negative: padding) and segment_ids (0: padding). Behind `decoder_` they are a decoder's;
with another prefix or suffix (`chosen_attention_mask`, `attention_mask_b`) they need input_ids of the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError
from lightning_neft.noise.documents import (
    document_lengths,
    documents_from_cu_seqlens,
    documents_from_mask,
    documents_from_position_ids,
    documents_from_sequence_ids,
)
from lightning_neft.noise.fields import IGNORED_LABEL, FieldGroup, field_groups

__all__ = ["GIVEN", "BatchToMask", "Length", "Scope", "TokenRows", "find_token_rows"]

Length = Literal["true", "padded"] | int
Scope = Literal["all", "prompt", "response"]
BatchToMask = Callable[[Any], Tensor | Sequence[Tensor] | None]

GIVEN = "batch_to_mask"
"""Source of the rows that the user's own function gave."""


@dataclasses.dataclass
class TokenRows:
    """The tokens of one forward pass: documents (B, L), the weight of each token's noise, and where this was read.

    Attributes:
        documents: int64, 0 for padding, k for the row's k-th document.
        covered: bool of the same shape, the tokens that get noise; None for all that are not padding.
        slots: bool of the same shape, the places that features of images, video or sound take: no tokens, neither
            counted nor noised; None if there are none.
        weight: float32 of the same shape, 1 / sqrt(length) for tokens that get noise, else 0.
        length: The length rule that made `weight`.
        ids: The token ids that these rows belong to, to tell apart two passes of one shape; None if unknown.
        is_decoder: Whether these are the decoder's tokens of an encoder-decoder.
        source: The fields of the batch that were used, for messages.
        doubt: Bool scalar on their device: whether the batch can be read in another way; None if it cannot.
    """

    documents: Tensor
    covered: Tensor | None
    length: Length
    ids: Tensor | None
    is_decoder: bool
    source: str
    slots: Tensor | None = None
    doubt: Tensor | None = None
    weight: Tensor = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.weight = _weight(self.documents, self.covered, self.slots, self.length)

    def window(self, rows: slice, columns: slice) -> Tensor:
        """Weights of a part of these rows, as when training_step feeds micro-batches or drops the last token.

        Lengths are counted within the part, which is what the model sees.
        """
        covered = None if self.covered is None else self.covered[rows, columns]
        slots = None if self.slots is None else self.slots[rows, columns]
        return _weight(self.documents[rows, columns], covered, slots, self.length)


def _weight(documents: Tensor, covered: Tensor | None, slots: Tensor | None, length: Length) -> Tensor:
    if length == "padded":
        # The transformers form: one length for all and noise on padding too.
        tokens = torch.ones_like(documents, dtype=torch.bool)
        lengths = torch.full_like(documents, documents.shape[-1])
    else:
        if slots is not None:
            documents = documents.masked_fill(slots, 0)
        tokens = documents > 0
        lengths = document_lengths(documents) if length == "true" else torch.full_like(documents, length)
    if covered is not None:
        tokens = tokens & covered
    return torch.where(tokens, lengths.to(torch.float32).clamp(min=1).rsqrt(), 0.0)


def find_token_rows(
    batch: Any,
    *,
    length: Length = "true",
    scope: Scope = "all",
    batch_to_mask: BatchToMask | None = None,
    seq2seq: bool = False,
    slots: Sequence[int] = (),
) -> list[TokenRows]:
    """Find the rows of tokens that a batch holds, one entry for each set of token ids in it.

    Args:
        batch: What the data loader gave, on its device.
        length: `true`, `padded` or a fixed number of tokens.
        scope: `all`, `prompt` (labels of -100) or `response` (other labels); for an encoder-decoder the encoder's and
            the decoder's tokens. L stays the length of the whole document.
        batch_to_mask: Used instead of the search if given: from the batch to a mask (B, L), 0 for padding and 1 or a
            document's number for tokens, or to a sequence of masks for several passes; None to search after all.
        seq2seq: Whether the model is an encoder-decoder: labels then stand for the decoder's tokens where there is no
            decoder_attention_mask.
        slots: Token ids that only keep places for the features of images, video or sound. They do not count as tokens.

    Returns:
        The rows; empty if nothing in the batch says which tokens are padding, so that every row has its full length.

    Raises:
        LengthsError: A field has a shape that cannot be read, or the scope needs labels and there are none.
    """
    groups = field_groups(batch, seq2seq)
    if batch_to_mask is not None and (answer := batch_to_mask(batch)) is not None:
        groups = _given(answer, groups)
    return [rows for group in groups if (rows := _rows_of(group, length, scope, seq2seq, slots)) is not None]


def _given(answer: Tensor | Sequence[Tensor], found: list[FieldGroup]) -> list[FieldGroup]:
    """The user's masks, with those labels of the batch that have their shape."""
    groups = []
    for mask in [answer] if isinstance(answer, Tensor) else answer:
        if not isinstance(mask, Tensor) or mask.dim() < 2:
            got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise LengthsError(f"batch_to_mask gave {got}: return a mask of shape (B, L), or a sequence of such masks.")
        group = FieldGroup({"mask": mask}, {"mask": GIVEN})
        for other in found:
            if "labels" in other.fields and other.fields["labels"].shape == mask.shape:
                group.add("labels", other.keys["labels"], other.fields["labels"])
        groups.append(group)
    return groups


def _rows_of(group: FieldGroup, length: Length, scope: Scope, seq2seq: bool, slots: Sequence[int]) -> TokenRows | None:
    documents, source, doubt = _documents_of(group)
    ids, labels = group.fields.get("ids"), group.fields.get("labels")
    if documents is None and slots and ids is not None:
        documents, source = torch.ones_like(ids), group.keys["ids"]
    if documents is None and scope != "all" and labels is not None and labels.dim() == 2:
        documents, source = torch.ones_like(labels), group.keys["labels"]
    if documents is None:
        return None
    covered = None
    if scope != "all" and seq2seq:
        covered = torch.full_like(documents, group.is_decoder == (scope == "response"), dtype=torch.bool)
    elif scope != "all":
        if labels is None or labels.shape != documents.shape:
            got = "none" if labels is None else f"labels of shape {tuple(labels.shape)}"
            raise LengthsError(
                f"scope={scope!r} needs labels of shape {tuple(documents.shape)} beside {source}, the batch has "
                f"{got}: add labels (-100 on the prompt), or use scope='all'."
            )
        covered = labels == IGNORED_LABEL if scope == "prompt" else labels != IGNORED_LABEL
    places = _slots(ids, documents, slots)
    return TokenRows(documents, covered, length, ids, group.is_decoder, source, places, doubt)


def _slots(ids: Tensor | None, documents: Tensor, slots: Sequence[int]) -> Tensor | None:
    """Where the token ids keep places for features; None where no ids belong to the documents."""
    if not slots or ids is None or ids.shape != documents.shape:
        return None
    return torch.stack([ids == slot for slot in slots]).any(0)


def _documents_of(group: FieldGroup) -> tuple[Tensor | None, str, Tensor | None]:
    """Documents from the most telling field, padding from the mask; the keys of the fields used; and the doubt."""
    fields, keys = group.fields, group.keys
    ids, positions = fields.get("ids"), fields.get("position_ids")
    from_mask = _from_mask(fields["mask"], keys["mask"], ids) if "mask" in fields else None
    documents, source, doubt = None, "", None
    if "cu_seqlens" in fields:
        source = keys["cu_seqlens"]
        documents = documents_from_cu_seqlens(_one_dimension(fields["cu_seqlens"], source), _single_row(group, source))
    elif "sequence_ids" in fields and fields["sequence_ids"].dim() == 2:
        source = keys["sequence_ids"]
        documents = documents_from_sequence_ids(fields["sequence_ids"])
    elif "segment_ids" in fields and fields["segment_ids"].dim() == 2:
        source = keys["segment_ids"]
        documents, doubt = _from_segments(fields["segment_ids"], from_mask)
    elif positions is not None and positions.dim() == 2:
        # Positions of more dimensions are spatial (M-RoPE) and say nothing about documents.
        source = keys["position_ids"]
        documents = documents_from_position_ids(positions)
        if ids is not None and ids.dim() == 2:
            documents = documents.expand(ids.shape)
    if from_mask is None:
        return documents, source, doubt
    if documents is None:
        return from_mask, keys["mask"], None
    if documents.shape != from_mask.shape:
        return documents, source, doubt
    return documents * (from_mask > 0), f"{source} and {keys['mask']}", doubt


def _from_mask(mask: Tensor, key: str, ids: Tensor | None) -> Tensor:
    if mask.dim() not in (2, 3, 4) or (mask.dim() > 2 and mask.shape[-2] not in (1, mask.shape[-1])):
        raise LengthsError(
            f"{key} has shape {tuple(mask.shape)}: a mask is (B, L), or (B, Q, L) or (B, heads, Q, L) with Q equal to "
            "L or 1. Give the mask (B, L) with batch_to_mask."
        )
    documents = documents_from_mask(mask)
    # One mask for all rows of the batch.
    is_shared = mask.dim() > 2 and ids is not None and ids.dim() == 2 and ids.shape[1:] == documents.shape[1:]
    return documents.expand(ids.shape) if is_shared and ids is not None and len(documents) == 1 else documents


def _from_segments(segments: Tensor, from_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Documents from segment ids: those of packed documents from 1 on, or of a pair of sentences (BERT) from 0 on."""
    packed = documents_from_sequence_ids(torch.where(segments == 0, -1, segments))
    if from_mask is not None and from_mask.shape == segments.shape:
        # A token in segment 0: not padding, hence the first sentence of a pair.
        is_pair = ((segments == 0) & (from_mask > 0)).any()
        return torch.where(is_pair, from_mask, packed), None
    return packed, (segments[:, 0] == 0).any() & (segments.max() <= 1)


def _one_dimension(cu_seqlens: Tensor, source: str) -> Tensor:
    if cu_seqlens.dim() == 2 and len(cu_seqlens) == 1:
        return cu_seqlens[0]
    if cu_seqlens.dim() != 1:
        raise LengthsError(
            f"{source} has shape {tuple(cu_seqlens.shape)}: cumulative lengths have one dimension. Give the mask "
            "(B, L) with batch_to_mask."
        )
    return cu_seqlens


def _single_row(group: FieldGroup, source: str) -> torch.Size:
    """Shape of the one row of tokens that cumulative lengths speak of."""
    for kind in ("ids", "position_ids", "labels"):
        tokens = group.fields.get(kind)
        if tokens is not None and tokens.dim() in (1, 2):
            if tokens.numel() == tokens.shape[-1]:
                return tokens.shape
            raise LengthsError(f"{source} speaks of one row, but {group.keys[kind]} has shape {tuple(tokens.shape)}.")
    raise LengthsError(
        f"{source} stands alone: add input_ids, position_ids or labels of shape (1, T) or (T,) to the batch."
    )
