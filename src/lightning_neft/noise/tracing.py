"""Whether the ids that an embedding is called with are ids of the batch, where no field says which are padding.

Such a batch is assumed to have no padding, so L is the width of the call. That is right for ids of the batch; ids that
training_step creates from texts, or pads, have padding that nothing describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_neft.errors import LengthsError
from lightning_neft.noise.lengths import clean_lookup, is_integer

__all__ = ["BatchIds"]

# Tokens that a training step may add to a row: one at its beginning and one at its end.
_ADDED = 2


class BatchIds:
    """The tensors of one batch that may hold its token ids.

    Args:
        tensors: All tensors of the batch.
        named: Those under the name input_ids, (B, L).
        is_new: Whether no batch of this kind was seen before, so that values may be read.
        known: Relations of widths for which the values of an earlier batch of this kind matched; grows.
    """

    def __init__(self, tensors: Sequence[Tensor], named: Sequence[Tensor], is_new: bool, known: set[object]) -> None:
        self._tensors = tensors
        self._named = named
        self._is_new = is_new
        self._known = known
        self.has_tables = any(tensor.dim() > 1 for tensor in tensors)
        """Whether any tensor has rows: all that a compiled graph can check."""

    def require(self, ids: Tensor | None, name: str) -> None:
        """Refuse a call with ids that are not of the batch. In eager mode; values are read where the call is new.

        Args:
            ids: What the embedding was called with, if that was a tensor.
            name: The embedding's name.

        Raises:
            LengthsError: The ids are not of the batch.
        """
        if not self._holds(ids):
            shape = "" if ids is None else f" of shape {tuple(ids.shape)}"
            raise LengthsError(
                f"{name} was called with ids{shape} that no tensor of the batch holds: training_step creates or pads "
                "them, so their padding is unknown. Pad in the collate function and add attention_mask to the batch, "
                "return the mask (B, L) from batch_to_mask, or use a number, length=512, or length='padded'. "
                f"{clean_lookup(name)}"
            )

    def _holds(self, ids: Tensor | None) -> bool:
        if ids is None or not is_integer(ids):
            # A layer that embeds something else than ids.
            return self.has_tables
        if any(_has_shape_of(ids, named) for named in self._named):
            return True
        memory = ids.untyped_storage().data_ptr()
        if any(tensor.untyped_storage().data_ptr() == memory for tensor in self._tensors):
            return True
        tables = [tensor for tensor in self._tensors if tensor.dim() in (2, 3) and not tensor.is_complex()]
        if not tables:
            # A single row is not padded to the width of others.
            tables = [tensor[None] for tensor in self._tensors if tensor.dim() == 1 and is_integer(tensor)]
            if ids.shape[:-1].numel() > 1 or not tables:
                return False
        width = ids.shape[-1]
        relation = tuple(max(min(table.shape[-1] - width, 1), -_ADDED) for table in tables)
        if relation in self._known and not self._is_new:
            return True
        if not _is_traced(ids, tables):
            return False
        self._known.add(relation)
        return True


def _has_shape_of(ids: Tensor, named: Tensor) -> bool:
    """Whether ids have the shape of the batch's, or its transpose: a training step may replace any of their values."""
    return ids.shape == named.shape or (named.dim() == 2 and ids.shape == named.mT.shape)


def _is_traced(ids: Tensor, tables: Sequence[Tensor]) -> bool:
    """Whether the values of ids are those of the tables: all of them, some of them, or rows side by side."""
    rows = ids.detach().reshape(-1, ids.shape[-1]).cpu().long()
    of_batch = [table.detach().reshape(-1, table.shape[-1]).cpu() for table in tables]
    for table in of_batch:
        forms = [rows, rows.mT, rows.flip(-1), *([rows.reshape(table.shape)] if rows.numel() == table.numel() else [])]
        if any(form.shape == table.shape and _are_alike(form, table) for form in forms):
            return True
    whole = [table.long() for table in of_batch if is_integer(table)]
    return _has_rows(rows, whole) or _has_columns(rows, whole)


def _are_alike(ids: Tensor, table: Tensor) -> bool:
    """Whether most values are equal, or all are renamed by one rule (an offset, another vocabulary)."""
    counted = table != table.flatten().mode().values
    if torch.equal(ids, table) or (counted.any() and (ids == table)[counted].float().mean() >= 0.5):
        return True
    pairs = torch.stack([table.reshape(-1).double(), ids.reshape(-1).double()], 1)
    distinct = len(torch.unique(pairs, dim=0))
    return distinct < ids.numel() and distinct == len(torch.unique(table))


def _has_rows(rows: Tensor, tables: Sequence[Tensor]) -> bool:
    """Whether each row is inside one row of a table; if all tables have one width, but for a token at each end."""
    text = b"".join(row for table in tables for row in _separated(table))
    if all(_lies_in(row.tobytes(), text) for row in rows.numpy()):
        return True
    if len({table.shape[1] for table in tables}) != 1:
        # What was added may be padding.
        return False
    cut = [[row[1:], row[:-1], row[1:-1]] for row in rows.numpy()]
    return all(any(len(part) and _lies_in(part.tobytes(), text) for part in parts) for parts in cut)


def _separated(table: Tensor) -> Iterator[bytes]:
    separator = np.array([np.iinfo(np.int64).min]).tobytes()
    for row in table.numpy():
        yield row.tobytes() + separator


def _lies_in(part: bytes, text: bytes) -> bool:
    place = text.find(part)
    while place % 8:  # -1 too
        if place < 0:
            return False
        place = text.find(part, place + 1)
    return True


def _has_columns(rows: Tensor, tables: Sequence[Tensor]) -> bool:
    """Whether tables with as many rows are side by side, but for single tokens added (a prompt and its answer)."""
    covered = np.zeros(rows.shape[1], dtype=bool)
    for table in tables:
        width = table.shape[1]
        if len(table) != len(rows) or width > rows.shape[1]:
            continue
        for start in range(rows.shape[1] - width + 1):
            if torch.equal(rows[:, start : start + width], table):
                covered[start : start + width] = True
    return covered.any().item() and (~covered).sum().item() <= _ADDED
