"""Which document each token belongs to, from any of the forms in which a batch can describe it.

A *documents* tensor is int64 of shape (B, L): 0 for padding, k >= 1 for the k-th document of that row. A row
that is not packed holds one document. Everything here runs on the batch's device without waiting for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "PaddingId",
    "document_lengths",
    "documents_from_cu_seqlens",
    "documents_from_ids",
    "documents_from_mask",
    "documents_from_position_ids",
    "documents_from_sequence_ids",
    "documents_of_packed_sequence",
]

# An additive mask hides positions by a large negative number: -inf, the dtype's smallest, or -10,000 in older models.
# Biases such as ALiBi's stay far above this.
_ADDITIVE_THRESHOLD = -5_000.0


@dataclass(frozen=True)
class PaddingId:
    """The token id that a model pads with.

    Attributes:
        id: The id.
        ends_rows: Whether a row of tokens may end with it too: it is the end-of-sequence id as well.
        begins_rows: Whether a row of tokens may begin with it too.
    """

    id: int
    ends_rows: bool = False
    begins_rows: bool = False


def documents_from_ids(ids: Tensor, padding: PaddingId, only_ends: bool = False) -> tuple[Tensor, Tensor | None]:
    """Documents of rows that only their ids describe: one in each, without the padding at its two ends.

    Args:
        ids: Integer (B, L).
        padding: The id of padding. A run of it at an end of a row is padding, unless a row may end (or begin) with it:
            then all of the run counts as tokens.
        only_ends: Whether to keep padding ids at the beginnings of rows.

    Returns:
        Documents, int64 (B, L). And a bool scalar, True if half of the rows or more end (or begin) with at least two of
        an id that may be a token there: some of it is padding, and how much is unknown; None where the id is never a
        token.

    >>> documents_from_ids(torch.tensor([[5, 0, 6, 0, 0], [0, 0, 5, 6, 7]]), PaddingId(0))[0].tolist()
    [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
    """
    is_padding = ids == padding.id
    inside = torch.ones_like(is_padding)
    doubts = []
    ends: list[tuple[bool, Tensor, tuple[int, ...]]] = [(padding.ends_rows, is_padding.flip(-1), (-1,))]
    if not only_ends:
        ends.append((padding.begins_rows, is_padding, ()))
    for may_be_tokens, from_end, turn in ends:
        if may_be_tokens:
            # One row alone may end with two of them by chance.
            doubts.append((from_end[:, :2].sum(-1) == 2).sum() * 2 >= ids.shape[0])
        else:
            inside = inside & (from_end.to(torch.int64).cumprod(-1) == 0).flip(turn)
    return inside.to(torch.int64), torch.stack(doubts).any() if doubts else None


def documents_from_mask(mask: Tensor) -> Tensor:
    """Documents from an attention mask.

    Args:
        mask: One of: (B, L) with 0 for padding (left or right) and 1, or the number of the document, for tokens;
            (B, Q, L) or (B, H, Q, L) with Q either L or 1, boolean or integer (non-zero: may be seen) or floating
            (1 may be seen and 0 may not, or additive: 0 may be seen, very negative may not), causal or not, with a
            sliding window or without, block-diagonal or not.

    Returns:
        Documents, int64 (B, L).

    >>> documents_from_mask(torch.tensor([[0, 1, 1], [1, 1, 2]])).tolist()
    [[0, 1, 1], [1, 1, 2]]
    """
    if mask.dim() == 2:
        return mask.to(torch.int64)
    if mask.dim() == 4:
        mask = mask[:, 0]
    visible = _visible(mask)
    if visible.shape[1] == 1:
        return visible[:, 0].to(torch.int64)
    # Some mask builders let a fully masked (padding) query see everything, to keep softmax finite. Such a row is
    # padding unless all rows are like that; the last row of a causal mask sees everything anyway.
    sees_all = visible.all(-1)
    sees_all[:, -1] = False
    all_rows = sees_all[:, :-1].all(-1, keepdim=True)
    token = visible.diagonal(dim1=1, dim2=2) & (~sees_all | all_rows)
    # A document continues where a token sees the token before it. In causal and bidirectional masks it does, however
    # narrow a sliding window is; the first token of another document does not.
    places = torch.arange(token.shape[-1], device=token.device)
    last = torch.where(token, places, -1).cummax(-1).values
    before = torch.nn.functional.pad(last[:, :-1], (1, 0), value=-1)
    sees_before = visible.gather(2, before.clamp(min=0).unsqueeze(-1)).squeeze(-1) & (before >= 0)
    return torch.where(token, (token & ~sees_before).cumsum(-1), 0)


def _visible(mask: Tensor) -> Tensor:
    """Which keys a query may see, bool, from a mask of three or four dimensions."""
    if not mask.is_floating_point():
        return mask != 0
    # All zeros are additive: as 1 and 0 they would hide everything.
    is_binary = ((mask == 0) | (mask == 1)).all() & mask.any()
    return torch.where(is_binary, mask != 0, mask >= _ADDITIVE_THRESHOLD)


def documents_from_position_ids(position_ids: Tensor) -> Tensor:
    """Documents from positions that restart where a document begins.

    Args:
        position_ids: Integer (B, L). A document begins wherever a position does not exceed that of its left neighbour:
            within a document positions may skip some, as those of PoSE or randomised ones do.

    >>> documents_from_position_ids(torch.tensor([[0, 1, 7, 0, 1]])).tolist()
    [[1, 1, 1, 2, 2]]
    """
    starts = torch.ones_like(position_ids, dtype=torch.bool)
    starts[:, 1:] = position_ids[:, 1:] <= position_ids[:, :-1]
    return starts.cumsum(-1)


def documents_from_sequence_ids(sequence_ids: Tensor) -> Tensor:
    """Documents from an identifier per token.

    Args:
        sequence_ids: Integer (B, L), any values; a run of equal values is one document, negative values are padding.

    >>> documents_from_sequence_ids(torch.tensor([[0, 0, 7, 7, -1]])).tolist()
    [[1, 1, 2, 2, 0]]
    """
    return _number_runs(sequence_ids, sequence_ids >= 0)


def documents_from_cu_seqlens(cu_seqlens: Tensor, shape: torch.Size) -> Tensor:
    """Documents of a padding-free batch: all sequences one after the other in a single row.

    Args:
        cu_seqlens: Integer (n + 1,), the cumulative lengths from 0 on, or (n,) without the leading 0. Tokens past the
            last one are padding.
        shape: Shape (1, T) or (T,) of the token ids.

    >>> documents_from_cu_seqlens(torch.tensor([0, 2, 5]), torch.Size((1, 6))).tolist()
    [[1, 1, 2, 2, 2, 0]]
    """
    positions = torch.arange(shape[-1], device=cu_seqlens.device)
    number = torch.searchsorted(cu_seqlens.contiguous(), positions, right=True) + (cu_seqlens[0] != 0)
    return torch.where(positions < cu_seqlens[-1], number, 0).reshape(shape)


def document_lengths(documents: Tensor) -> Tensor:
    """Length of the document that each token belongs to; 0 for padding.

    Args:
        documents: int64, (B, L) or (T,); no value above L.

    >>> document_lengths(torch.tensor([[1, 1, 2, 0]])).tolist()
    [[2, 2, 1, 0]]
    """
    # Values never exceed the width where they number documents; a mask with other numbers must not index out of bounds.
    rows = documents.reshape(-1, documents.shape[-1]).clamp(0, documents.shape[-1])
    counts = rows.new_zeros(rows.shape[0], rows.shape[1] + 1)
    # The sign is 1 for a token and 0 for padding, whose count stays 0.
    counts.scatter_add_(1, rows, rows.sign())
    return counts.gather(1, rows).reshape(documents.shape)


def documents_of_packed_sequence(batch_sizes: Tensor) -> Tensor:
    """Documents of a `PackedSequence`, int64 (T,): its tokens lie time step after time step.

    Args:
        batch_sizes: How many sequences reach each time step, falling.

    >>> documents_of_packed_sequence(torch.tensor([2, 2, 1])).tolist()
    [1, 2, 1, 2, 1]
    """
    starts = batch_sizes.cumsum(0) - batch_sizes
    return torch.arange(int(batch_sizes.sum())) - starts.repeat_interleave(batch_sizes) + 1


def _number_runs(values: Tensor, token: Tensor) -> Tensor:
    """Number the runs of equal values of each row from 1; 0 where `token` is False."""
    starts = torch.ones_like(token)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    return torch.where(token, starts.cumsum(-1), 0)
