"""Which of a batch's rows a forward pass works on: by shape, then by the memory that its ids share with the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_neft.errors import LengthsError
from lightning_neft.noise.embedding import Side
from lightning_neft.noise.lengths import TokenRows

__all__ = ["match_weight", "rows_of_side"]


def rows_of_side(rows: Sequence[TokenRows], side: Side | None) -> list[TokenRows]:
    """The rows of a batch that an embedding of this side is called with."""
    own = [row for row in rows if row.is_decoder == (side == "decoder")]
    # A decoder without tokens of its own in the batch gets the encoder's, shifted (BART for classification).
    return own if own and side in ("encoder", "decoder") else list(rows)


def match_weight(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor | None, name: str) -> Tensor:
    """Weight of each token of one forward pass.

    Args:
        rows: The batch's rows of tokens, at least one.
        shape: Shape of the embedding's output without its last dimension: (B, L), or (T,) if flattened.
        ids: What the embedding was called with, if that was a tensor.
        name: The embedding's name, for messages.

    Returns:
        float32 of shape `shape`: 1 / sqrt(length) for tokens that get noise, else 0.

    Raises:
        LengthsError: No rows fit, or several do and nothing tells them apart.
    """
    fitting = [r for r in rows if r.weight.shape == shape]
    if len(fitting) == 1:
        return fitting[0].weight
    if torch.compiler.is_compiling() and len(fitting) > 1:
        # Memory cannot be compared in a graph. Without fullgraph torch falls back to eager here, where it can.
        raise LengthsError(
            _message(rows, shape, name, "several rows of one shape cannot be told apart in a compiled graph")
        )
    if len(fitting) > 1:
        by_ids = [r for r in fitting if r.ids is not None and _same_memory(r.ids, ids)]
        # Ids made by the model itself (a decoder's, shifted from the labels) belong to rows that have none.
        by_ids = by_ids or [r for r in fitting if r.ids is None]
        if len(by_ids) == 1:
            return by_ids[0].weight
        raise LengthsError(_message(rows, shape, name, "several rows fit and the ids do not tell which"))
    if not torch.compiler.is_compiling() and (part := _part(rows, shape, ids)) is not None:
        return part
    if not torch.compiler.is_compiling() and (longer := _lengthened(rows, shape, ids)) is not None:
        return longer
    flattened = _flattened(rows, shape)
    if flattened is None:
        raise LengthsError(_message(rows, shape, name, "no rows fit"))
    return flattened


def _same_memory(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.data_ptr() == other.data_ptr() and one.shape == other.shape


def _part(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor | None) -> Tensor | None:
    """Weights for ids that are a slice of the batch's: micro-batches, or all but the last token."""
    if ids is None or ids.dim() != 2 or ids.shape != shape:
        return None
    for row in rows:
        whole = row.ids
        if whole is None or whole.dim() != 2 or whole.shape != row.weight.shape:
            continue
        if whole.stride(1) == 0 or ids.stride() != whole.stride():
            continue
        if whole.untyped_storage().data_ptr() != ids.untyped_storage().data_ptr():
            continue
        first_row, first_column = divmod(int(ids.storage_offset() - whole.storage_offset()), whole.stride(0))
        first_column //= whole.stride(1)
        last_row, last_column = first_row + shape[0], first_column + shape[1]
        if first_row >= 0 and last_row <= whole.shape[0] and last_column <= whole.shape[1]:
            return row.window(slice(first_row, last_row), slice(first_column, last_column))
    return None


def _lengthened(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor | None) -> Tensor | None:
    """Weights for ids that the model itself pads on the right, to a multiple of its attention window (Longformer, LED).

    Such ids are new memory: their values have to be compared, which waits for the device.
    """
    if ids is None or ids.shape != shape:
        return None
    for row in rows:
        if row.ids is None or row.ids.dim() != 2 or len(shape) != 2 or row.ids.shape != row.weight.shape:
            continue
        added = shape[1] - row.ids.shape[1]
        if added > 0 and row.ids.shape[0] == shape[0] and torch.equal(ids[:, :-added], row.ids):
            return nn.functional.pad(row.weight, (0, added))
    return None


def _flattened(rows: Sequence[TokenRows], shape: torch.Size) -> Tensor | None:
    """Weights for an output that lays out the tokens of the only rows in another shape."""
    if len(rows) != 1:
        return None
    weight = rows[0].weight
    if weight.numel() == shape.numel():
        rows_alone = weight.dim() == 1 or weight.shape[0] == 1 or len(shape) == 1
        return weight.reshape(shape) if rows_alone else None
    if len(shape) != 1 or shape[0] > weight.numel():
        return None
    # Padding taken out: the tokens in their order, found without waiting for their number.
    is_padding = (rows[0].documents == 0).reshape(-1)
    if weight.device.type == "cpu" and not torch.compiler.is_compiling() and int((~is_padding).sum()) > shape[0]:
        return None
    order = is_padding.to(torch.int8).argsort(stable=True)
    return weight.reshape(-1)[order[: shape[0]]]


def _message(rows: Sequence[TokenRows], shape: torch.Size, name: str, problem: str) -> str:
    listed = ", ".join(f"{row.source} {tuple(row.weight.shape)}" for row in rows)
    return (
        f"{name} was called with tokens of shape {tuple(shape)}, the batch has {listed}: {problem}. Give the "
        "masks of the passes with batch_to_mask, or use length='padded' or a number."
    )
