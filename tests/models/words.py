"""Batches of random words for the small base model, and a quiet fit on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tiny import trainer

VOCABULARY = 29


def batch(lengths: Sequence[int], seed: int = 0) -> dict[str, Tensor]:
    """Right-padded ids, the first two words of each row being prompt."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.randint(3, VOCABULARY, (len(lengths), width), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    labels = torch.where((mask == 1) & (torch.arange(width) >= 2), ids, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def batches(count: int) -> list[dict[str, Tensor]]:
    """Batches of two rows of 4 to 12 words."""
    return [batch([4 + number % 5, 12 - number % 7], seed=number) for number in range(count)]


def loader(count: int) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(batches(count), batch_size=None)  # type: ignore[arg-type]


def fit(module: Any, count: int = 4, data: Any = None, ckpt_path: Any = None, **options: Any) -> Any:
    """Train on `count` batches, or on `data`, and return the trainer."""
    fitted = trainer(**{"max_steps": count, "limit_val_batches": 0, **options})
    train = StatefulDataLoader(batches(count), batch_size=None) if data is None else data
    fitted.fit(module, train, loader(2), ckpt_path=ckpt_path, weights_only=True)
    return fitted
