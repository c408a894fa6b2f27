"""Put encoded samples together to a batch, padded to its longest one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_neft.data.encoding import IGNORED, EncodedSample

__all__ = ["RightPadding"]


class RightPadding:
    """Collates to the length of the batch's longest sample, padding on the right.

    Args:
        pad_id: What fills up `input_ids`. It may be the end token too: mask and labels come from the lengths.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, samples: Sequence[EncodedSample]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each of shape (batch, longest) and dtype int64.

        Example:
            >>> batch = RightPadding(0)([EncodedSample([5, 6], [-100, 6]), EncodedSample([7], [-100])])
            >>> batch["input_ids"].tolist(), batch["attention_mask"].tolist(), batch["labels"].tolist()
            ([[5, 6], [7, 0]], [[1, 1], [1, 0]], [[-100, 6], [-100, -100]])
        """
        shape = (len(samples), max(len(sample.input_ids) for sample in samples))
        batch = {
            "input_ids": torch.full(shape, self.pad_id),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "labels": torch.full(shape, IGNORED),
        }
        for row, sample in enumerate(samples):
            length = len(sample.input_ids)
            batch["input_ids"][row, :length] = torch.tensor(sample.input_ids)
            batch["attention_mask"][row, :length] = 1
            batch["labels"][row, :length] = torch.tensor(sample.labels)
        return batch
