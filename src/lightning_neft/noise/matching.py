"""Which rows of a batch a forward pass uses: by shape, by the memory that its ids share with the batch, by values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_neft.errors import LengthsError
from lightning_neft.noise.embedding import Side
from lightning_neft.noise.lengths import GIVEN, TokenRows, clean_lookup

__all__ = ["Layout", "Passes", "match_weight", "rows_of_side"]


@dataclass
class Passes:
    """The forward passes of one batch through all embeddings with noise, for masks that only their order distinguishes.

    Attributes:
        count: Number of passes so far.
        are_in_order: Whether each pass that its shape matched to a mask had the mask of its place; in earlier batches
            too.
        by_order: Number of masks, once a pass got one by its place alone; 0 before.
    """

    count: int = 0
    are_in_order: bool = True
    by_order: int = 0

    def next(self) -> int:
        """Number of a new pass."""
        self.count += 1
        return self.count - 1


@dataclass
class Layout:
    """Whether a module may be called with tokens (L, B), and whether it is.

    Attributes:
        may_be_turned: Whether a module around the embedding is sequence-first (`batch_first=False`).
        is_turned: As shown by a call with L different from B; None before.
    """

    may_be_turned: bool = False
    is_turned: bool | None = None


def rows_of_side(rows: Sequence[TokenRows], side: Side | None) -> list[TokenRows]:
    """The rows of a batch that an embedding of this side is called with."""
    own = [row for row in rows if row.is_decoder == (side == "decoder")]
    if side == "encoder" or (own and side == "decoder"):
        return own
    if side == "decoder":
        # Without tokens in the batch, a decoder gets the encoder's, shifted (BART for classification).
        own = [copy.copy(row) for row in rows]
        for row in own:
            row.ids, row.shifted = None, row.ids
        return own
    return list(rows)


def match_weight(
    rows: Sequence[TokenRows],
    shape: torch.Size,
    ids: Tensor | None,
    name: str,
    layout: Layout | None = None,
    passes: Passes | None = None,
    number: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """Weight of each token of one forward pass.

    Args:
        rows: The batch's rows of tokens, at least one.
        shape: Shape of the embedding's output without its last dimension: (B, L), or (T,) if flattened.
        ids: What the embedding was called with, if that was a tensor.
        name: The embedding's name, for messages.
        layout: Layout of the embedding's module, updated by this call.
        passes: Passes of the batch, updated by this call.
        number: Number of this pass among them.

    Returns:
        float32 of shape `shape`: 1 / sqrt(length) for tokens that get noise, else 0. And a bool scalar on the device,
        True if the ids are not those of the rows; None where they are for certain.

    Raises:
        LengthsError: No rows fit, or several do and nothing distinguishes them.
    """
    layout, passes = layout or Layout(), passes or Passes()
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
        raise LengthsError(_message(rows, shape, name, "a compiled graph cannot distinguish several rows of one shape"))
    if fitting and all(r.order is not None for r in fitting):
        if len(fitting) > 1:
            fitting = [_by_order(rows, fitting, shape, name, passes, number)]
        else:
            passes.are_in_order &= fitting[0].order == number
    if len(fitting) > 1:
        # Ids that the model creates (a decoder's, shifted from the labels) belong to rows without ids.
        fitting = [r for r in fitting if r.ids is None]
        if len(fitting) != 1:
            raise LengthsError(_message(rows, shape, name, "several rows fit, and the ids do not identify one"))
    found = _of_shape(fitting[0], shape, ids, layout) if fitting else _other(rows, shape, ids, layout)
    if found is None:
        problem = "it may be (B, L) or (L, B); use a batch size other than L" if fitting else "no rows fit"
        raise LengthsError(_message(rows, shape, name, problem))
    weight, doubt = found
    if doubt is None or compiling or doubt.device.type != "cpu":
        return weight, doubt
    if doubt:
        raise LengthsError(_message(rows, shape, name, "the ids are neither those of the batch nor a part of them"))
    return weight, None


def _by_order(
    rows: Sequence[TokenRows],
    fitting: Sequence[TokenRows],
    shape: torch.Size,
    name: str,
    passes: Passes,
    number: int,
) -> TokenRows:
    """The mask of batch_to_mask whose place is that of the pass, where several have its shape."""
    passes.by_order = len(rows)
    found = next((row for row in fitting if row.order == number), None)
    if found is None or not passes.are_in_order:
        raise LengthsError(
            f"{name} was called with tokens of shape {tuple(shape)}, the shape of several masks of batch_to_mask, and "
            f"the masks are not in the order of the forward passes (this is pass {number + 1}). Return them in that "
            "order, one for each pass with gradients, or return masks of different shapes."
        )
    return found


_Found = tuple[Tensor, Tensor | None]


def _of_shape(row: TokenRows, shape: torch.Size, ids: Tensor | None, layout: Layout) -> _Found | None:
    """Weights of a row of the pass's own shape."""
    if row.shifted is not None and ids is not None and row.shifted.shape == ids.shape == shape:
        return row.weight, _is_not_shifted(ids, row)
    is_square = not torch.compiler.is_compiling() and len(shape) == 2 and shape[0] == shape[1]
    if ids is not None and _can_compare(row, ids):
        doubt = _differ(ids, row)
        if not is_square:
            return row.weight, doubt
        # Square: only the values show whether a model transposes the ids (XLNet).
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
        if (copied := _copied_part(rows, shape, ids)) is not None:
            return copied
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
    """Whether ids of a row's shape belong to other rows than these: bool scalar on the device.

    What lengths depend on has to be the same: the padding and, where rows are packed or have places of several kinds,
    most of the tokens. A training step may mask tokens, or replace the id of all padding.
    """
    assert row.ids is not None
    same, padding = ids == row.ids, row.documents == 0
    counted = ~padding if row.slots is None else ~padding & ~row.slots
    few = ((same & counted).sum(-1) * 2 < counted.sum(-1)).any()
    padding_changed, tokens_changed = (~same & padding).any(), (~same & counted).any()
    # Padding replaced by a single id is still padding.
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
            return row.window(slice(first_row, last_row, every), slice(first_column, last_column)).weight
    return None


def _copied_part(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor) -> _Found | None:
    """Weights for a copy of the batch's ids without some at the right or at the left: cast, trimmed, all but the last.

    Such ids are in new memory: most of each row's tokens have to be those of the batch.
    """
    if len(shape) != 2 or ids.shape != shape or ids.is_floating_point():
        return None
    wider = [
        row
        for row in rows
        if row.ids is not None and row.ids.shape == row.weight.shape and row.ids.device == ids.device
        if row.ids.dim() == 2 and row.ids.shape[0] == shape[0] and row.ids.shape[1] > shape[1]
    ]
    if len(wider) != 1:
        return None
    [row] = wider
    left = row.window(slice(None), slice(None, shape[1]))
    right = row.window(slice(None), slice(row.weight.shape[1] - shape[1], None))
    (on_left, not_left), (on_right, not_right) = _agreement(ids, left), _agreement(ids, right)
    is_left = on_left >= on_right
    return torch.where(is_left, left.weight, right.weight), torch.where(is_left, not_left, not_right)


def _agreement(ids: Tensor, row: TokenRows) -> tuple[Tensor, Tensor]:
    """How many of a row's tokens are these ids; and whether in some row it is less than half of them."""
    assert row.ids is not None
    counted = row.documents > 0
    same = (ids == row.ids) & counted
    return same.sum(), (same.sum(-1) * 2 < counted.sum(-1)).any()


def _is_not_shifted(ids: Tensor, row: TokenRows) -> Tensor:
    """Whether ids differ from those that a row has for its other side, shifted by one to the right."""
    assert row.shifted is not None
    counted = row.documents[:, :-1] > 0
    same = (ids[:, 1:] == row.shifted[:, :-1]) & counted
    return (same.sum(-1) * 2 < counted.sum(-1)).any()


def _lengthened(rows: Sequence[TokenRows], shape: torch.Size, ids: Tensor) -> _Found | None:
    """Weights for ids that the model itself pads on the right, to a multiple of its attention window (Longformer, LED).

    Such ids are in new memory: their values have to be those of the batch.
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
    """Weights for an output that has the tokens of the only rows in another shape."""
    weight = row.weight
    own = [row.ids] if row.ids is not None and row.ids.shape == weight.shape else list(row.alike)
    if ids is None or ids.shape != shape:
        own = []
    own = [tokens for tokens in own if ids is not None and tokens.device == ids.device]
    if row.source == GIVEN and not own and len(shape) == 1 and weight.dim() > 1 and weight.shape[0] > 1:
        raise LengthsError(
            f"the embedding was called with {shape[0]} tokens in one row, and batch_to_mask returned a mask of shape "
            f"{tuple(weight.shape)}: the row of each token is unknown. Return a mask (1, T) with each token's document "
            "number, 1, 2, ..., or use a number, length=512. Or put the PackedSequence into the batch, which needs no "
            "batch_to_mask, or embed the padded ids before you pack them."
        )
    if weight.numel() == shape.numel():
        rows_alone = weight.dim() == 1 or weight.shape[0] == 1 or len(shape) == 1
        if not rows_alone and (len(shape) < 3 or shape[-1] != weight.shape[-1]):
            return None
        if ids is None or not own:
            return weight.reshape(shape), None
        if row.ids is not None:
            return weight.reshape(shape), _differ(ids.reshape(own[0].shape), row)
        other = [(ids.reshape(tokens.shape) != tokens) & (row.documents > 0) for tokens in own]
        return weight.reshape(shape), _most(other, (row.documents > 0).sum())
    if len(shape) != 1 or shape[0] > weight.numel():
        return None
    # Without padding: the tokens in their order, found without waiting for their number.
    is_padding = (row.documents == 0).reshape(-1)
    order = is_padding.to(torch.int8).argsort(stable=True)[: shape[0]]
    count = (~is_padding).sum()
    if ids is None or not own:
        return weight.reshape(-1)[order], count != shape[0]
    changed = [(ids != tokens.reshape(-1)[order]) & ~is_padding[order] for tokens in own]
    different = changed[0].any() if row.ids is not None else _most(changed, count)
    return weight.reshape(-1)[order], (count > shape[0]) | different


def _most(different: Sequence[Tensor], count: Tensor) -> Tensor:
    """Whether in each of several comparisons more than half of the tokens differ."""
    return torch.stack([one.sum() * 2 > count for one in different]).all()


def _message(rows: Sequence[TokenRows], shape: torch.Size, name: str, problem: str) -> str:
    listed = ", ".join(f"{row.source} {tuple(row.weight.shape)}" for row in rows)
    return (
        f"{name} was called with tokens of shape {tuple(shape)}, and the batch has {listed}: {problem}. Return the "
        "masks of the passes from batch_to_mask, or use length='padded' or a number. "
        f"{clean_lookup(name)}"
    )
