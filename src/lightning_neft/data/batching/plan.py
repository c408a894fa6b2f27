"""Plans of batches: sample indices and the share of the optimiser step, and the dataset that fetches the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from lightning_neft.data.tokenization import IGNORED, EncodedSample, Task

__all__ = ["BatchPlan", "Batching", "PlannedBatch", "PlannedSamples", "Samples", "trained_weights"]

Batching = Literal["random", "length_grouped", "packed", "flat"]


class Samples(Protocol):
    """A sequence of encoded samples, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> EncodedSample: ...


@dataclass(frozen=True)
class BatchPlan:
    """The samples of one micro-batch of one rank.

    The training loss of a micro-batch is the mean over its own trained tokens, times `step_share`, times (micro-batches
    of a step * ranks). Lightning divides by the micro-batches and DDP by the ranks, so the gradients add up to those of
    the mean over all trained tokens of the step.

    Attributes:
        rows: Sample indices of each row: one without packing.
        step_share: Trained weight of this micro-batch divided by that of the whole optimiser step, over all ranks and
            micro-batches. 0 for a rank without a row, which gets a copy of another rank's. None for held-out data.
    """

    rows: tuple[tuple[int, ...], ...]
    step_share: float | None = None


@dataclass(frozen=True)
class PlannedBatch:
    """The samples that a `BatchPlan` names, as a `Collator` takes them, and the number of each row's source or None."""

    rows: tuple[tuple[EncodedSample, ...], ...]
    step_share: float | None = None
    sources: tuple[int, ...] | None = None


class PlannedSamples(Dataset[PlannedBatch]):
    """Fetches the samples of a plan. The index one past the end is a sample without labels (see `HeldOutOrder`).

    Args:
        samples: Encoded samples by index.
        sources: The number of each sample's source, (samples,) integers, for rows of single samples.

    Example:
        >>> from types import SimpleNamespace
        >>> samples = [SimpleNamespace(input_ids=[5, 6], labels=[-100, 6])]
        >>> batch = PlannedSamples(samples)[BatchPlan(((0,), (1,)))]
        >>> [document.labels for row in batch.rows for document in row]
        [[-100, 6], [-100, -100]]
    """

    def __init__(self, samples: Samples, sources: NDArray[np.int64] | None = None) -> None:
        self.samples, self.sources = samples, sources

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, plan: BatchPlan) -> PlannedBatch:
        rows = tuple(tuple(map(self._sample, row)) for row in plan.rows)
        if self.sources is None:
            return PlannedBatch(rows, plan.step_share)
        # The sample without labels is the first one.
        owners = tuple(int(self.sources[row[0] % len(self)]) for row in plan.rows)
        return PlannedBatch(rows, plan.step_share, owners)

    def _sample(self, index: int) -> EncodedSample:
        if index < len(self.samples):
            return self.samples[index]
        first = self.samples[0]
        return EncodedSample(first.input_ids, [IGNORED] * len(first.labels))


def trained_weights(
    task: Task,
    lengths: ArrayLike,
    trained: ArrayLike,
    first_trained: ArrayLike = False,
    prompt_loss: float = 0.0,
) -> NDArray[np.float64]:
    """Return the weight of each sample in the loss: the number of its labels that the loss uses.

    A causal model does not predict the first token of a sample, not even in a packed row.

    Args:
        task: Task of the model. Each sample of sequence_classification weighs 1.
        lengths: Tokens of each sample, (samples,) integers.
        trained: Labels other than -100 of each sample, (samples,) integers.
        first_trained: Whether the first token's label is among them, (samples,) booleans or one for all.
        prompt_loss: Weight of a token of the prompt, one of the answer being 1; causal_lm only.

    Returns:
        Weights of shape (samples,). Samples of weight 0 have no token to train on: drop them.

    Example:
        >>> trained_weights("causal_lm", [6, 4], [2, 4], [False, True], prompt_loss=0.5).tolist()
        [3.5, 3.0]
    """
    counts, first = np.asarray(trained, np.float64), np.asarray(first_trained, np.bool_)
    if task == "sequence_classification":
        return np.ones_like(counts)
    if task == "seq2seq_lm":
        return counts
    prompts = np.asarray(lengths) - counts - ~first
    return counts - first + prompt_loss * prompts
