"""Which of a batch's rows a forward pass works on: by shape, by the memory its ids share with the batch, by values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_neft.errors import LengthsError
from lightning_neft.noise.embedding import Side
from lightning_neft.noise.lengths import TokenRows

__all__ = ["Layout", "match_weight", "rows_of_side"]


@dataclass
class Layout:
    """Whether a module may be called with tokens (L, B), and whether it is.

    Attributes:
        may_be_turned: Whether a module around the embedding is sequence-first (`batch_first=False`).
        is_turned: What a call with L and B of different size has shown; None before.
    """

    may_be_turned: bool = False
    is_turned: bool | None = None


def rows_of_side(rows: Sequence[TokenRows], side: Side | None) -> list[TokenRows]:
    """The rows of a batch that an embedding of this side is called with."""
    own = [row for row in rows if row.is_decoder == (side == "decoder")]
    if own and side in ("encoder", "decoder"):
        return own
    if side == "decoder":
        # A decoder without tokens of its own in the batch gets the encoder's, shifted (BART for classification).
        own = [copy.copy(row) for row in rows]
        for row in own:
            row.ids = None
        return own
    return list(rows)


def match_weight(
    rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor | None, name: str, layout: Layout | None = None
) -> tuple[Tensor, Tensor | None]:
    """Weight of each token of one forward pass.

    Args:
        rows: The batch's rows of tokens, at least one.
        shape: Shape of the embedding's output without its last dimension: (B, L), or (T,) if flattened.
        ids: What the embedding was called with, if that was a tensor.
        name: The embedding's name, for messages.
        layout: Of the embedding's module; what this call shows is written into it.

    Returns:
        float32 of shape `shape`: 1 / sqrt(length) for tokens that get noise, else 0. And a bool scalar on a device that
        is not waited for, True if the rows turn out not to be those of the ids; None where that is certain.

    Raises:
        LengthsError: No rows fit, or several do and nothing tells them apart.
    """
    layout = layout or Layout()
    compiling = torch.compiler.is_compiling()
    fitting = [r for r in rows if r.weight.shape == shape]
    if not compiling and ids is not None:
        same = [r for r in fitting if r.ids is not None and _same_memory(r.ids, ids)]
        if len(same) == 1:
            return same[0].weight, None
        turned = [r for r in rows if r.ids is not None and r.ids.dim() == 2 and _same_memory(r.ids.mT, ids)]
        if len(turned) == 1:
            return turned[0].weight.mT, None
    if compiling and len(fitting) > 1:
        # Memory cannot be compared in a graph. Without fullgraph torch falls back to eager here, where it can.
        raise LengthsError(
            _message(rows, shape, name, "several rows of one shape cannot be told apart in a compiled graph")
        )
    if len(fitting) > 1:
        # Ids made by the model itself (a decoder's, shifted from the labels) belong to rows that have none.
        fitting = [r for r in fitting if r.ids is None]
        if len(fitting) != 1:
            raise LengthsError(_message(rows, shape, name, "several rows fit and the ids do not tell which"))
    found = _of_shape(fitting[0], shape, ids, layout) if fitting else _other(rows, shape, ids, layout)
    if found is None:
        problem = "it may be (B, L) or (L, B); use another batch size than L" if fitting else "no rows fit"
        raise LengthsError(_message(rows, shape, name, problem))
    weight, doubt = found
    if doubt is None or compiling or doubt.device.type != "cpu":
        return weight, doubt
    if doubt:
        raise LengthsError(_message(rows, shape, name, "the ids are not those of the batch, nor a part of them"))
    return weight, None


_Found = tuple[Tensor, Tensor | None]


def _of_shape(row: TokenRows, shape: torch.Size, ids: Tensor | None, layout: Layout) -> _Found | None:
    """Weights of a row of the pass's own shape."""
    is_square = not torch.compiler.is_compiling() and len(shape) == 2 and shape[0] == shape[1]
    if ids is not None and _can_compare(row, ids):
        doubt = _differ(ids, row)
        if not is_square:
            return row.weight, doubt
        # As wide as high: models that turn the ids themselves (XLNet) are told by values alone.
        return torch.where(doubt, row.weight.mT, row.weight), doubt & _differ(ids.mT, row)
    if layout.may_be_turned:
        if not is_square:
            layout.is_turned = False
        elif layout.is_turned is None:
            return None
        elif layout.is_turned:
            return row.weight.mT, None
    return row.weight, None


def _other(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor | None, layout: Layout) -> _Found | None:
    """Weights where no row has the pass's own shape."""
    turned = [r for r in rows if len(shape) == 2 and r.weight.shape == (shape[1], shape[0])]
    if len(turned) == 1 and layout.may_be_turned:
        layout.is_turned = True
        return turned[0].weight.mT, None
    if len(turned) == 1 and ids is not None and _can_compare(turned[0], ids.mT):
        return turned[0].weight.mT, _differ(ids.mT, turned[0])
    if not torch.compiler.is_compiling() and ids is not None:
        if (part := _part(rows, shape, ids)) is not None:
            return part, None
        if (longer := _lengthened(rows, shape, ids)) is not None:
            return longer
    return _flattened(rows[0], shape, ids) if len(rows) == 1 else None


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _can_compare(row: TokenRows, ids: Tensor) -> bool:
    if row.ids is None or ids.is_floating_point() or row.ids.device != ids.device:
        return False
    return row.ids.shape == row.weight.shape == ids.shape


def _differ(ids: Tensor, row: TokenRows) -> Tensor:
    """Whether ids of a row's shape belong to other rows than these: bool scalar, not waited for.

    What lengths depend on has to be the same: the padding and, where rows are packed or have places of several kinds,
    most of the tokens. A training step may mask tokens, or write another id on all padding.
    """
    assert row.ids is not None
    same, padding = ids == row.ids, row.documents == 0
    counted = ~padding if row.slots is None else ~padding & ~row.slots
    few = ((same & counted).sum(-1) * 2 < counted.sum(-1)).any()
    padding_changed, tokens_changed = (~same & padding).any(), (~same & counted).any()
    # Padding that has become one value is padding still.
    highest = ids.masked_fill(~padding, torch.iinfo(ids.dtype).min).amax()
    lowest = ids.masked_fill(~padding, torch.iinfo(ids.dtype).max).amin()
    needs_tokens = (row.documents > 1).any()
    if row.covered is not None or row.slots is not None:
        needs_tokens = torch.ones_like(needs_tokens)
    return (few & (padding_changed | needs_tokens)) | (padding_changed & tokens_changed & (highest != lowest))


def _part(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor) -> Tensor | None:
    """Weights for ids that are a slice of the batch's: micro-batches, all but the last token, one choice of several."""
    if ids.dim() != 2 or ids.shape != shape:
        return None
    for row in rows:
        whole = row.ids
        if whole is None or whole.dim() != 2 or whole.shape != row.weight.shape:
            continue
        if whole.stride(1) == 0 or ids.stride(1) != whole.stride(1) or ids.stride(0) % max(whole.stride(0), 1):
            continue
        if whole.untyped_storage().data_ptr() != ids.untyped_storage().data_ptr() or whole.stride(0) == 0:
            continue
        every = max(ids.stride(0) // whole.stride(0), 1)
        first_row, first_column = divmod(int(ids.storage_offset() - whole.storage_offset()), whole.stride(0))
        first_column //= whole.stride(1)
        last_row, last_column = first_row + (shape[0] - 1) * every + 1, first_column + shape[1]
        if first_row >= 0 and last_row <= whole.shape[0] and last_column <= whole.shape[1]:
            return row.window(slice(first_row, last_row, every), slice(first_column, last_column))
    return None


def _lengthened(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor) -> _Found | None:
    """Weights for ids that the model itself pads on the right, to a multiple of its attention window (Longformer, LED).

    Such ids are new memory: their values have to be those of the batch.
    """
    if ids.shape != shape or len(shape) != 2:
        return None
    shorter = [
        row
        for row in rows
        if row.ids is not None and row.ids.shape == row.weight.shape and row.ids.device == ids.device
        if row.ids.dim() == 2 and row.ids.shape[0] == shape[0] and row.ids.shape[1] < shape[1]
    ]
    if len(shorter) != 1 or shorter[0].ids is None:
        return None
    width = shorter[0].ids.shape[1]
    return nn.functional.pad(shorter[0].weight, (0, shape[1] - width)), (ids[:, :width] != shorter[0].ids).any()


def _flattened(row: TokenRows, shape: torch.Size, ids: Tensor | None) -> _Found | None:
    """Weights for an output that lays out the tokens of the only rows in another shape."""
    weight = row.weight
    own = row.ids if row.ids is not None and row.ids.shape == weight.shape else None
    if ids is None or ids.shape != shape or (own is not None and own.device != ids.device):
        own = None
    if weight.numel() == shape.numel():
        rows_alone = weight.dim() == 1 or weight.shape[0] == 1 or len(shape) == 1
        if not rows_alone and (len(shape) < 3 or shape[-1] != weight.shape[-1]):
            return None
        doubt = None if own is None or ids is None else _differ(ids.reshape(own.shape), row)
        return weight.reshape(shape), doubt
    if len(shape) != 1 or shape[0] > weight.numel():
        return None
    # Padding taken out: the tokens in their order, found without waiting for their number.
    is_padding = (row.documents == 0).reshape(-1)
    order = is_padding.to(torch.int8).argsort(stable=True)[: shape[0]]
    tokens = (~is_padding).sum()
    if own is None or ids is None:
        return weight.reshape(-1)[order], tokens != shape[0]
    changed = (ids != own.reshape(-1)[order]) & ~is_padding[order]
    return weight.reshape(-1)[order], (tokens > shape[0]) | changed.any()


def _message(rows: Sequence[TokenRows], shape: torch.Size, name: str, problem: str) -> str:
    listed = ", ".join(f"{row.source} {tuple(row.weight.shape)}" for row in rows)
    return (
        f"{name} was called with tokens of shape {tuple(shape)}, the batch has {listed}: {problem}. Give the "
        "masks of the passes with batch_to_mask, or use length='padded' or a number. Look up what is no sequence (a "
        f"whole table, candidates) with F.embedding(ids, {name}.weight): it gets no noise there."
    )
