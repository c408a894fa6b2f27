"""From a training batch to its rows of tokens: padding, the length of each document, and the tokens that get noise.

Recognised fields, at any depth (see `contents`) and by their exact names:
input_ids, attention_mask, position_ids, labels, cu_seqlens (also cu_seq_lens and both with `_q`), seq_idx, seq_ids,
sequence_ids, document_ids (negative: padding) and segment_ids (0: padding). Behind `decoder_` they are a decoder's;
with another prefix or suffix (`chosen_attention_mask`, `attention_mask_b`) they need input_ids with the same one. A
`PackedSequence` holds its lengths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError
from lightning_neft.noise.contents import Contents
from lightning_neft.noise.documents import (
    PaddingId,
    document_lengths,
    documents_from_cu_seqlens,
    documents_from_ids,
    documents_from_mask,
    documents_from_position_ids,
    documents_from_sequence_ids,
)
from lightning_neft.noise.fields import IGNORED_LABEL, FieldGroup, field_groups

__all__ = [
    "GIVEN",
    "BatchToMask",
    "Length",
    "Scope",
    "TokenRows",
    "clean_lookup",
    "find_token_rows",
    "is_integer",
    "padding_or_tokens",
]

Length = Literal["true", "padded"] | int
Scope = Literal["all", "prompt", "response"]
# It returns a mask, a sequence of masks or None, checked at run time: with a narrower type a LightningCLI refuses a
# function without annotations.
BatchToMask = Callable[[Any], Any]

GIVEN = "batch_to_mask"
"""Source of the rows that the user's own function gave."""

_PAIR_OR_PADDING = (
    "holds only 0 and 1 and begins with 0: the two sentences of a pair, or padding and a document? Add attention_mask, "
    "or return the mask (B, L) from batch_to_mask."
)


@dataclasses.dataclass
class TokenRows:
    """The tokens of one forward pass: documents (B, L), the weight of each token's noise, and where this was read.

    Attributes:
        documents: int64, 0 for padding, k for the row's k-th document.
        covered: bool of the same shape, the tokens that get noise; None for all that are not padding.
        slots: bool of the same shape, the placeholders for features of images, video or sound: neither counted nor
            noised; None if there are none.
        weight: float32 of the same shape, 1 / sqrt(length) for tokens that get noise, else 0.
        length: The length rule that made `weight`.
        ids: The token ids of these rows, to distinguish two passes of one shape; None if unknown.
        is_decoder: Whether these are the decoder's tokens of an encoder-decoder.
        source: The fields of the batch that were used, for messages.
        doubt: Bool scalar on their device, whether the batch can be read in another way, and how, for messages; None if
            it cannot.
        is_described: Whether a field describes the padding; else only the ids themselves do.
        order: Place of the mask in the sequence that batch_to_mask gave; None if it gave one mask, or none.
        alike: Integer tensors of the batch that have the shape of a mask from batch_to_mask, hence may be its ids.
        shifted: The encoder's ids, where a decoder is assumed to read these, shifted.
    """

    documents: Tensor
    covered: Tensor | None
    length: Length
    ids: Tensor | None
    is_decoder: bool
    source: str
    slots: Tensor | None = None
    doubt: tuple[Tensor, str] | None = None
    is_described: bool = True
    order: int | None = None
    alike: Sequence[Tensor] = ()
    shifted: Tensor | None = None

    @cached_property
    def weight(self) -> Tensor:
        """1 / sqrt(length) for tokens that get noise, else 0: float32 of the documents' shape."""
        return _weight(self.documents, self.covered, self.slots, self.length)

    def window(self, rows: slice, columns: slice) -> TokenRows:
        """A part of these rows, as when training_step feeds micro-batches or drops the last token.

        Lengths are counted within the part, which is what the model sees.
        """

        def part(of: Tensor | None) -> Tensor | None:
            return None if of is None else of[rows, columns]

        return dataclasses.replace(
            self,
            documents=self.documents[rows, columns],
            covered=part(self.covered),
            slots=part(self.slots),
            ids=part(self.ids),
        )


def _weight(documents: Tensor, covered: Tensor | None, slots: Tensor | None, length: Length) -> Tensor:
    if length == "padded":
        # The transformers form: one length for all and noise on padding too.
        weight = torch.full_like(documents, documents.shape[-1], dtype=torch.float32).rsqrt()
    else:
        if slots is not None:
            documents = documents.masked_fill(slots, 0)
        lengths = document_lengths(documents) if length == "true" else torch.full_like(documents, length)
        weight = lengths.to(torch.float32).rsqrt().masked_fill_(documents <= 0, 0)
    return weight if covered is None else weight * covered


def find_token_rows(
    batch: Any,
    *,
    length: Length = "true",
    scope: Scope = "all",
    batch_to_mask: BatchToMask | None = None,
    seq2seq: bool = False,
    slots: Sequence[int] = (),
    padding: PaddingId | None = None,
    undescribed: bool = False,
) -> list[TokenRows]:
    """Find the rows of tokens that a batch holds, one entry for each set of token ids in it.

    Args:
        batch: The batch from the data loader on its device, or its `Contents`.
        length: `true`, `padded` or a fixed number of tokens.
        scope: `all`, `prompt` (labels of -100) or `response` (other labels); for an encoder-decoder the encoder's and
            the decoder's tokens. L stays the length of the whole document.
        batch_to_mask: Function from the batch to a mask (B, L), 0 for padding and 1 or a document's number for tokens,
            or to a sequence of masks for several passes. Its masks replace the batch's own fields, unless it returns
            None.
        seq2seq: Whether the model is an encoder-decoder: without decoder_attention_mask, labels then describe the
            decoder's tokens.
        slots: Token ids that are placeholders for features of images, video or sound. They do not count as tokens.
        padding: The padding id, looked for at the ends of rows without a mask.
        undescribed: Whether to return rows for ids (B, L) whose padding no field describes, too.

    Returns:
        The rows; without `undescribed` empty if nothing in the batch describes the padding.

    Raises:
        LengthsError: A field has a shape that cannot be read, or the scope needs labels and there are none.
    """
    contents = batch if isinstance(batch, Contents) else Contents(batch)
    # The function may change the batch, so nothing is walked before it.
    if batch_to_mask is not None and (answer := batch_to_mask(contents.batch)) is not None:
        return _given(answer, contents, length, scope, seq2seq)
    rows = []
    for group in field_groups(contents, seq2seq):
        found = _rows_of(group, length, scope, seq2seq, slots, padding)
        if found is not None and (found.is_described or undescribed):
            rows.append(found)
    return rows


def _given(answer: Any, contents: Contents, length: Length, scope: Scope, seq2seq: bool) -> list[TokenRows]:
    """Rows of the user's masks, with those labels of the batch that have their shape."""
    is_one = isinstance(answer, Tensor)
    masks = [answer] if is_one else answer
    if not isinstance(masks, list | tuple) or not masks:
        got = (
            f"an empty {type(answer).__name__}" if isinstance(masks, list | tuple) else f"type {type(answer).__name__}"
        )
        raise LengthsError(
            f"batch_to_mask returned {got}: return a mask of shape (B, L), a list of such masks in the order of the "
            "forward passes, or None to read the batch's own fields."
        )
    # Fields that are not needed may be unreadable.
    found = [] if scope == "all" else field_groups(contents, seq2seq)
    others = [part.value for part in contents.tensors]
    rows = []
    for order, mask in enumerate(masks):
        if not isinstance(mask, Tensor) or mask.dim() < 2:
            got = (
                f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else f"a list with type {type(mask).__name__}"
            )
            raise LengthsError(f"batch_to_mask returned {got}: return a mask of shape (B, L), or a list of such masks.")
        group = FieldGroup({"mask": mask}, {"mask": GIVEN})
        for other in found:
            if "labels" in other.fields and other.fields["labels"].shape == mask.shape:
                group.add("labels", other.keys["labels"], other.fields["labels"])
        row = _rows_of(group, length, scope, seq2seq, (), None)
        assert row is not None  # it has a mask
        row.order = None if is_one else order
        row.alike = [
            other for other in others if other is not mask and other.shape == row.weight.shape and is_integer(other)
        ]
        rows.append(row)
    return rows


def is_integer(value: Tensor) -> bool:
    """Whether a tensor may hold token ids."""
    return not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool


def _rows_of(
    group: FieldGroup,
    length: Length,
    scope: Scope,
    seq2seq: bool,
    slots: Sequence[int],
    padding: PaddingId | None,
) -> TokenRows | None:
    ids, labels = group.fields.get("ids"), group.fields.get("labels")
    documents, source, doubt = _documents_of(group, padding)
    is_described = documents is not None
    if documents is None and ids is not None and (slots or (ids.dim() == 2 and is_integer(ids))):
        documents, source = torch.ones_like(ids, dtype=torch.int64), group.keys["ids"]
        if padding is not None and ids.dim() == 2:
            documents, doubt = _without_padding(ids, padding)
        is_described = bool(slots) or scope != "all"
    if documents is None and scope != "all" and labels is not None and labels.dim() == 2:
        documents, source, is_described = torch.ones_like(labels), group.keys["labels"], True
    if documents is None:
        return None
    covered = None
    if scope != "all" and seq2seq:
        covered = torch.full_like(documents, group.is_decoder == (scope == "response"), dtype=torch.bool)
    elif scope != "all":
        if labels is None or labels.shape != documents.shape:
            got = "none" if labels is None else f"labels of shape {tuple(labels.shape)}"
            raise LengthsError(
                f"scope={scope!r} needs labels of shape {tuple(documents.shape)} beside {source}, but the batch has "
                f"{got}: add labels (-100 on the prompt), or use scope='all'."
            )
        covered = labels == IGNORED_LABEL if scope == "prompt" else labels != IGNORED_LABEL
    places = _slots(ids, documents, slots)
    return TokenRows(documents, covered, length, ids, group.is_decoder, source, places, doubt, is_described)


def _slots(ids: Tensor | None, documents: Tensor, slots: Sequence[int]) -> Tensor | None:
    """Where the token ids are placeholders for features; None where no ids belong to the documents."""
    if not slots or ids is None or ids.shape != documents.shape:
        return None
    return torch.stack([ids == slot for slot in slots]).any(0)


def _documents_of(group: FieldGroup, padding: PaddingId | None) -> tuple[Tensor | None, str, tuple[Tensor, str] | None]:
    """Documents from the most informative field, padding from the mask; the keys of the fields used; and the doubt."""
    fields, keys = group.fields, group.keys
    ids, positions = fields.get("ids"), fields.get("position_ids")
    from_mask, unsure = None, None
    if "mask" in fields:
        from_mask = _from_mask(fields["mask"], keys["mask"], ids)
    if "targets" in fields and padding is not None:
        # Padded with the model's padding id, which training_step may replace by -100.
        from_mask, unsure = _without_padding_of_labels(fields["targets"], padding)
    documents, source, doubt = None, "", None
    if "documents" in fields:
        return fields["documents"], keys["documents"], None
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
        return from_mask, keys["mask"], unsure
    if documents.shape != from_mask.shape:
        return documents, source, doubt
    return documents * (from_mask > 0), f"{source} and {keys['mask']}", doubt or unsure


def _without_padding(
    ids: Tensor, padding: PaddingId, only_ends: bool = False
) -> tuple[Tensor, tuple[Tensor, str] | None]:
    documents, doubt = documents_from_ids(ids, padding, only_ends)
    return documents, None if doubt is None else (doubt, padding_or_tokens(padding))


def _without_padding_of_labels(labels: Tensor, padding: PaddingId) -> tuple[Tensor, tuple[Tensor, str] | None]:
    """Labels are a decoder's tokens, all but those of -100 and the padding at the ends of rows."""
    padded = labels if padding.ends_rows else labels.masked_fill(labels == IGNORED_LABEL, padding.id)
    documents, doubt = _without_padding(padded, padding, only_ends=True)
    return documents * (labels != IGNORED_LABEL), doubt


def padding_or_tokens(padding: PaddingId) -> str:
    """Why padding is unclear where rows end with an id that may be a token too, for messages."""
    return (
        f"ends (or begins) many rows with several of id {padding.id}, which the model's config uses for padding and "
        "for the end (or beginning) of a sequence, so it is unclear which are padding. Add attention_mask, or return "
        "the mask (B, L) from batch_to_mask (1 on tokens, everywhere if none is padding)."
    )


def clean_lookup(name: str) -> str:
    """How to embed ids that are not a sequence, for messages."""
    return f"Embed other ids (a whole table, candidates) with F.embedding(ids, {name}.weight), which gets no noise."


def _from_mask(mask: Tensor, key: str, ids: Tensor | None) -> Tensor:
    if mask.dim() not in (2, 3, 4) or (mask.dim() > 2 and mask.shape[-2] not in (1, mask.shape[-1])):
        raise LengthsError(
            f"{key} has shape {tuple(mask.shape)}: a mask is (B, L), or (B, Q, L) or (B, heads, Q, L) with Q equal to "
            "L or 1. Return the mask (B, L) from batch_to_mask."
        )
    documents = documents_from_mask(mask)
    # One mask for all rows of the batch.
    is_shared = mask.dim() > 2 and ids is not None and ids.dim() == 2 and ids.shape[1:] == documents.shape[1:]
    return documents.expand(ids.shape) if is_shared and ids is not None and len(documents) == 1 else documents


def _from_segments(segments: Tensor, from_mask: Tensor | None) -> tuple[Tensor, tuple[Tensor, str] | None]:
    """Documents from segment ids: those of packed documents from 1 on, or of a pair of sentences (BERT) from 0 on."""
    packed = documents_from_sequence_ids(torch.where(segments == 0, -1, segments))
    if from_mask is not None and from_mask.shape == segments.shape:
        # A token in segment 0: not padding, hence the first sentence of a pair.
        is_pair = ((segments == 0) & (from_mask > 0)).any()
        return torch.where(is_pair, from_mask, packed), None
    return packed, ((segments[:, 0] == 0).any() & (segments.max() <= 1), _PAIR_OR_PADDING)


def _one_dimension(cu_seqlens: Tensor, source: str) -> Tensor:
    if cu_seqlens.dim() == 2 and len(cu_seqlens) == 1:
        return cu_seqlens[0]
    if cu_seqlens.dim() != 1:
        raise LengthsError(
            f"{source} has shape {tuple(cu_seqlens.shape)}: cumulative lengths have one dimension. Return the mask "
            "(B, L) from batch_to_mask."
        )
    return cu_seqlens


def _single_row(group: FieldGroup, source: str) -> torch.Size:
    """Shape of the one row of tokens that cumulative lengths describe."""
    for kind in ("ids", "position_ids", "labels"):
        tokens = group.fields.get(kind)
        if tokens is not None and tokens.dim() in (1, 2):
            if tokens.numel() == tokens.shape[-1]:
                return tokens.shape
            raise LengthsError(
                f"{source} describes one row, but {group.keys[kind]} has shape {tuple(tokens.shape)}. Return the "
                "mask (B, L) from batch_to_mask."
            )
    raise LengthsError(
        f"{source} needs a row of tokens: add input_ids, position_ids or labels of shape (1, T) or (T,) to the batch."
    )
