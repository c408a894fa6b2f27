"""The loss without noise of each training and held-out sample, which shows how much a model has overfitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.order import HeldOutOrder
from lightning_neft.data.batching.plan import BatchPlan, PlannedSamples
from lightning_neft.data.module import TextData
from lightning_neft.data.tokenization import IGNORED
from lightning_neft.errors import DataError
from lightning_neft.hub.tokenizer import pad_id
from lightning_neft.models.execution import eager, evaluating
from lightning_neft.models.finetuner import FineTuner
from lightning_neft.models.loss import Predictions, token_scores

__all__ = ["CleanLosses", "Split", "clean_losses"]

Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class CleanLosses:
    """Losses without noise, in nats.

    Attributes:
        samples: Index of each sample in its split.
        per_sample: Mean over the trained tokens of each of them.
        tokens: How many trained tokens each of them has.
    """

    samples: list[int]
    per_sample: list[float]
    tokens: list[int]

    @property
    def mean_loss(self) -> float:
        """Mean over all trained tokens, as `val/loss` is."""
        return float(np.average(self.per_sample, weights=self.tokens))

    @property
    def mean_over_samples(self) -> float:
        """Mean over the samples, whatever their number of tokens; a study compares this one."""
        return float(np.mean(self.per_sample))

    def to_json(self) -> dict[str, Any]:
        """Return it as a split of a result of the kind clean_loss."""
        return {
            "n_samples": len(self.samples),
            "mean_loss": self.mean_loss,
            "per_sample": self.per_sample,
            "tokens": self.tokens,
            "samples": self.samples,
        }


@torch.no_grad()
def clean_losses(
    module: FineTuner, data: TextData, split: Split, limit: int | None = None, *, seed: int = 0
) -> CleanLosses:
    """Return the losses of a module on a split of its data, without noise and dropout; no random state is moved.

    Call it with the weights on the device to use, and within the Trainer's precision context if they were trained in
    another precision than their own. Samples are batched by length, data.batch_size of them at a time.
    Only answers count, even if part of the prompt was in the training loss.

    Args:
        module: A module whose model is built. Its train and eval modes do not change.
        data: After `setup`.
        split: Which samples.
        limit: Maximum number of samples, drawn the same way for each model; all by default.
        seed: Seed of that draw.

    Raises:
        DataError: There are no samples, or they are not kept, as with data.streaming.
    """
    prepared = data.prepared
    store = prepared.train if split == "train" else prepared.held_out
    if store is None:
        raise DataError("there is no validation set to compare with; set data.val_size or data.val_split")
    count = len(store) if limit is None else min(limit, len(store))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(store))[:count])
    fetch = PlannedSamples(store)
    collate = Collator(pad_id(prepared.tokenizer), data.options.task, "random")
    losses, tokens = np.zeros(count), np.zeros(count, np.int64)
    with evaluating(module.model), eager(module.model):
        for plan in HeldOutOrder(store.lengths[chosen], data.batch_size):
            places = [row[0] for row in plan.rows]
            rows = tuple((int(chosen[place]),) for place in places)
            batch = _moved(collate(fetch[BatchPlan(rows)]), module.device)
            summed, counted = _by_row(module.predictions(batch), batch)
            losses[places], tokens[places] = summed.cpu().numpy(), counted.cpu().numpy()
    return CleanLosses(chosen.tolist(), (losses / tokens).tolist(), tokens.tolist())


def _by_row(predictions: Predictions, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return (rows,) summed losses, float64, and (rows,) numbers of targets."""
    targets, count = predictions.targets, len(batch["input_ids"])
    losses = token_scores(predictions)[0].double()
    if "loss_index" in batch:
        row = batch["loss_index"] // batch["input_ids"].shape[1]
    else:
        row = torch.arange(count, device=targets.device).repeat_interleave(len(targets) // count)
    counted = (targets != IGNORED).long()
    return (
        torch.zeros(count, dtype=losses.dtype, device=losses.device).index_add(0, row, losses),
        torch.zeros(count, dtype=counted.dtype, device=counted.device).index_add(0, row, counted),
    )


def _moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
