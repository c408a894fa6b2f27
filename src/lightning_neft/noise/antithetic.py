"""Antithetic pairs (SymNoise): each sample is in its batch twice, with a noise and with its negative."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError

__all__ = ["double_rows", "halves"]


def double_rows(batch: Any) -> None:
    """Append a copy of each row to a batch, in place: its second half then holds the samples of its first half.

    Forward and backward passes of that batch take about twice the time and twice the memory for activations.

    Args:
        batch: A dict (or other mutable mapping) with `input_ids` (B, L). Tensors and lists with B entries are doubled,
            everything else is unchanged.

    Raises:
        LengthsError: The batch is not such a mapping, or has all its samples in one row.

    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "step": 7}
    >>> double_rows(batch)
    >>> batch["input_ids"].tolist(), batch["step"]
    ([[1, 2], [3, 4], [1, 2], [3, 4]], 7)
    """
    ids = batch.get("input_ids") if isinstance(batch, MutableMapping) else None
    if not isinstance(ids, Tensor) or ids.dim() < 2:
        raise LengthsError(
            f"antithetic pairs need a batch that is a dict with input_ids (B, L), got {type(batch).__name__}. Double "
            "other batches in a method double_rows(batch) of the LightningModule."
        )
    if flat := [key for key in batch if "cu_seq" in str(key)]:
        raise LengthsError(
            f"antithetic pairs need one row for each sample or pack, but {flat[0]} means that all samples are in one "
            "row. Omit antithetic, or build batches of several rows."
        )
    rows = ids.shape[0]
    for key, value in batch.items():
        if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == rows:
            batch[key] = torch.cat([value, value])
        elif isinstance(value, list) and len(value) == rows:
            batch[key] = [*value, *value]


def halves(output: Tensor, rows_of_batch: Sequence[int], name: str) -> tuple[Tensor, Tensor]:
    """The two halves of an embedding's output for a doubled batch.

    Args:
        output: (2 B, L, d).
        rows_of_batch: Numbers of rows that the batch has; empty if unknown.
        name: The embedding's name.

    Raises:
        LengthsError: The output is not that of the whole batch.
    """
    rows = output.shape[0]
    # The halves of a part of the batch are other pairs; a flattened batch has none.
    if rows % 2 or output.dim() < 3 or (rows_of_batch and rows not in rows_of_batch):
        raise LengthsError(
            f"{name} was called with tokens of shape {tuple(output.shape[:-1])}: antithetic pairs need all rows of the "
            "doubled batch in one forward pass, (2 B, L). Pass the whole batch, or use antithetic=False."
        )
    return output[: rows // 2], output[rows // 2 :]
