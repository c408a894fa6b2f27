"""What of a batch the model reads, what the loss reads, and which batches hold several documents in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_neft.data.tokenization import IGNORED
from lightning_neft.noise.antithetic import double_rows as double

__all__ = ["NextTokens", "double_rows", "is_packed", "model_inputs", "next_tokens"]

Batch = dict[str, Any]

# What the data layer adds for the loss and the noise. Models take keywords that they do not know for attention's.
_NOT_FOR_THE_MODEL = frozenset(
    {"labels", "step_share", "loss_index", "loss_targets", "loss_token_weights", "loss_weights", "sequence_ids"}
)


@dataclass(frozen=True)
class NextTokens:
    """Where a causal model is asked for its next token, and what that is.

    Attributes:
        index: (n,) int64, places in the flattened batch.
        targets: (n,) int64.
        weights: (n,) float32, or None if all weigh the same.
    """

    index: Tensor
    targets: Tensor
    weights: Tensor | None = None


def model_inputs(batch: Mapping[str, Any]) -> Batch:
    """Return what the model is called with, without the labels and all that only loss and noise need.

    Example:
        >>> list(model_inputs({"input_ids": 1, "attention_mask": 2, "labels": 3, "step_share": 4}))
        ['input_ids', 'attention_mask']
    """
    return {name: value for name, value in batch.items() if name not in _NOT_FOR_THE_MODEL}


def next_tokens(batch: Mapping[str, Any]) -> NextTokens:
    """Return the places that predict a labelled token, from the data layer or else from the labels.

    Args:
        batch: With `loss_index` and `loss_targets`, and maybe `loss_token_weights`; or else with `labels` (batch,
            length), not shifted, and maybe `loss_weights` of the same shape. The labels are looked for on their
            device, and the process has to wait for it.

    Example:
        >>> tokens = next_tokens({"labels": torch.tensor([[-100, 5, 6], [-100, -100, 7]])})
        >>> tokens.index.tolist(), tokens.targets.tolist()
        ([0, 1, 4], [5, 6, 7])
    """
    if "loss_index" in batch:
        return NextTokens(batch["loss_index"], batch["loss_targets"], batch.get("loss_token_weights"))
    labels = batch["labels"]
    predicts = torch.zeros_like(labels, dtype=torch.bool)
    predicts[:, :-1] = labels[:, 1:] != IGNORED
    index = predicts.flatten().nonzero().squeeze(1)
    weights = batch["loss_weights"].flatten()[index + 1] if "loss_weights" in batch else None
    return NextTokens(index, labels.flatten()[index + 1], weights)


def is_packed(batch: Mapping[str, Any]) -> bool:
    """Return whether rows hold several documents, told apart by positions that restart.

    Example:
        >>> is_packed({"input_ids": 1, "position_ids": 2}), is_packed({"input_ids": 1, "attention_mask": 2})
        (True, False)
    """
    return "position_ids" in batch and "attention_mask" not in batch


def double_rows(batch: Batch) -> None:
    """Append a copy of each row, in place, with the loss on both, as antithetic noise needs it.

    Raises:
        LengthsError: The batch lays its samples out in one row.

    Example:
        >>> batch = {"input_ids": torch.zeros(1, 3), "loss_index": torch.tensor([1]), "loss_targets": torch.tensor([7])}
        >>> double_rows(batch)
        >>> batch["input_ids"].shape, batch["loss_index"].tolist(), batch["loss_targets"].tolist()
        (torch.Size([2, 3]), [1, 4], [7, 7])
    """
    # By place, not by row: there may happen to be as many as rows.
    places = batch["input_ids"].numel()
    by_place = {name: batch.pop(name) for name in ("loss_index", "loss_targets", "loss_token_weights") if name in batch}
    double(batch)
    for name, value in by_place.items():
        batch[name] = torch.cat([value, value + places if name == "loss_index" else value])
