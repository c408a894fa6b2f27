"""Doubles the rows of a batch, so that each sample can be seen with a noise and with its opposite (SymNoise)."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError

__all__ = ["double_rows"]


def double_rows(batch: Any) -> None:
    """Append a copy of each row to a batch, in place: its second half then holds the samples of its first half.

    Every forward and backward pass takes about twice the time and the memory for activations from then on.

    Args:
        batch: A dict (or other mutable mapping) with `input_ids` (B, L). Tensors and lists with B entries are doubled,
            everything else is left as it is.

    Raises:
        LengthsError: The batch is of another kind, or lays its samples out in one row.

    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "step": 7}
    >>> double_rows(batch)
    >>> batch["input_ids"].tolist(), batch["step"]
    ([[1, 2], [3, 4], [1, 2], [3, 4]], 7)
    """
    ids = batch.get("input_ids") if isinstance(batch, MutableMapping) else None
    if not isinstance(ids, Tensor) or ids.dim() < 2:
        raise LengthsError(
            f"antithetic pairs double the rows of the batch, which has to be a dict with input_ids (B, L); got "
            f"{type(batch).__name__}. Double it yourself in a method double_rows(batch) of the LightningModule."
        )
    if flat := [key for key in batch if "cu_seq" in str(key)]:
        raise LengthsError(
            f"antithetic pairs need a row for each sample or pack; {flat[0]} says that all are laid out in one row."
        )
    rows = ids.shape[0]
    for key, value in batch.items():
        if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == rows:
            batch[key] = torch.cat([value, value])
        elif isinstance(value, list) and len(value) == rows:
            batch[key] = [*value, *value]
