"""What a batch is made of before it is made: sample indices, its share of the optimiser step, and who fetches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from lightning_neft.data.tokenization import IGNORED, Task

__all__ = ["BatchPlan", "Batching", "HasTokens", "PlannedBatch", "PlannedSamples", "Samples", "trained_weights"]

Batching = Literal["random", "length_grouped", "packed", "flat"]


class HasTokens(Protocol):
    """One encoded sample, as far as batching is concerned."""

    @property
    def input_ids(self) -> Sequence[int] | NDArray[np.integer]:
        """The tokens; for seq2seq_lm those of the encoder."""

    @property
    def labels(self) -> Sequence[int] | NDArray[np.integer]:
        """What is to be learnt.

        For causal_lm as many as tokens, not shifted, -100 where there is no loss; for seq2seq_lm the decoder's targets;
        for sequence_classification the one class.
        """


class Samples(Protocol):
    """A sequence of encoded samples, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> HasTokens: ...


@dataclass(frozen=True)
class BatchPlan:
    """The samples of one micro-batch of one rank.

    The training loss of a micro-batch is the mean over its own trained tokens, times `step_share`, times (micro-batches
    of a step * ranks). Lightning divides by the first factor and DDP by the second, so the gradients add up to those of
    the mean over all trained tokens of the step.

    Attributes:
        rows: Sample indices of each row: one without packing.
        step_share: Trained weight of this micro-batch over that of the whole optimiser step, all ranks and
            micro-batches together; 0 for a rank that had no row left and got a copy of another's. None for held-out
            data.
    """

    rows: tuple[tuple[int, ...], ...]
    step_share: float | None = None


@dataclass(frozen=True)
class PlannedBatch:
    """The samples that a `BatchPlan` names, as a `Collator` takes them."""

    rows: tuple[tuple[HasTokens, ...], ...]
    step_share: float | None = None


@dataclass(frozen=True)
class _Unlabelled:
    input_ids: Sequence[int] | NDArray[np.integer]
    labels: Sequence[int] | NDArray[np.integer]


class PlannedSamples(Dataset[PlannedBatch]):
    """Fetches the samples of a plan. The index one past the end is a sample without labels (see `HeldOutOrder`).

    Args:
        samples: Encoded samples by index.

    Example:
        >>> from types import SimpleNamespace
        >>> samples = [SimpleNamespace(input_ids=[5, 6], labels=[-100, 6])]
        >>> batch = PlannedSamples(samples)[BatchPlan(((0,), (1,)))]
        >>> [document.labels for row in batch.rows for document in row]
        [[-100, 6], [-100, -100]]
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, plan: BatchPlan) -> PlannedBatch:
        return PlannedBatch(tuple(tuple(map(self._sample, row)) for row in plan.rows), plan.step_share)

    def _sample(self, index: int) -> HasTokens:
        if index < len(self.samples):
            return self.samples[index]
        first = self.samples[0]
        return _Unlabelled(first.input_ids, [IGNORED] * len(first.labels))


def trained_weights(
    task: Task,
    lengths: ArrayLike,
    trained: ArrayLike,
    first_trained: ArrayLike = False,
    prompt_loss: float = 0.0,
) -> NDArray[np.float64]:
    """Return how much each sample weighs in the loss: how many of its labels the loss sees.

    A causal model does not predict the first token of a sample, also where it stands in a packed row.

    Args:
        task: What the model learns. Each sample of sequence_classification weighs 1.
        lengths: Tokens of each sample, (samples,) integers.
        trained: Labels other than -100 of each sample, (samples,) integers.
        first_trained: Whether the first token's label is among them, (samples,) booleans or one for all.
        prompt_loss: Weight of a token of the prompt, one of the answer being 1; causal_lm only.

    Returns:
        Weights of shape (samples,). Samples of weight 0 have nothing to train on: leave them out.

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
