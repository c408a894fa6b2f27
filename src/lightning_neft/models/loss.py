"""The loss of the trained tokens: their logits alone, and its mean over an optimiser step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from lightning_neft.data.tokenization import IGNORED
from lightning_neft.errors import ModelError

__all__ = ["Predictions", "ResponseLogits", "TokenMean", "mean_loss", "share_of_step", "summed_loss"]


@dataclass(frozen=True)
class Predictions:
    """What a model said where something was to be said.

    Attributes:
        logits: (n, classes), any floating dtype.
        targets: (n,) int64, -100 where there is no loss.
        weights: (n,) float32, what each place weighs; None if all weigh the same.
        auxiliary: Scalar that is added to the loss in training, such as that of a mixture's router; None without one.
    """

    logits: Tensor
    targets: Tensor
    weights: Tensor | None = None
    auxiliary: Tensor | None = None


def summed_loss(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the cross-entropies in nats, and the sum of the weights.

    Returns:
        Two scalars on the device of the logits; the first float32, or float64 for float64 logits. Both are 0 where
        there is no target.

    Example:
        >>> loss, weight = summed_loss(Predictions(torch.zeros(3, 8), torch.tensor([-100, 4, 2])))
        >>> round(loss.item(), 4), weight.item()  # twice log(8)
        (4.1589, 2)
    """
    targets, weights = predictions.targets, predictions.weights
    # Sums of thousands of exponentials: half precision would lose the loss in them.
    logits = predictions.logits.to(torch.promote_types(predictions.logits.dtype, torch.float32))
    if weights is None:
        return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum"), (targets != IGNORED).sum()
    losses = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    return (losses * weights).sum(), (weights * (targets != IGNORED)).sum()


def mean_loss(predictions: Predictions) -> Tensor:
    """Return the weighted mean of the cross-entropies; 0 where there is no target.

    Example:
        >>> logits, targets = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.tensor([1, 0])
        >>> round(mean_loss(Predictions(logits, targets, weights=torch.tensor([1.0, 0.5]))).item(), 4)  # log(2)
        0.6931
    """
    total, weight = summed_loss(predictions)
    # Without a branch on the weight, which would wait for the device.
    return total / torch.where(weight > 0, weight, 1)


def share_of_step(step_share: Tensor, accumulate: int, replicas: int) -> Tensor:
    """Return the factor that makes a micro-batch's mean loss its part of the mean over the whole optimiser step.

    Lightning divides each micro-batch's loss by their number, and the strategy takes the mean of the gradients over the
    copies of the model: as if all micro-batches had equally many trained tokens. The factor undoes both.

    Args:
        step_share: Trained weight of this micro-batch over that of all of the step, scalar.
        accumulate: Micro-batches in a step.
        replicas: Copies of the model.

    Example:
        >>> share_of_step(torch.tensor(0.25), accumulate=2, replicas=2)
        tensor(1.)
    """
    return step_share * (accumulate * replicas)


class TokenMean(Metric):
    """Mean of values from their sums and the sums of their weights.

    torchmetrics' MeanMetric looks for NaN in each update, which waits for the device, and without that
    (`nan_strategy="disable"`) leaves the weights out of account.

    Example:
        >>> mean = TokenMean()
        >>> mean.update(torch.tensor(6.0), torch.tensor(3))
        >>> mean.update(torch.tensor(6.0), torch.tensor(1))
        >>> mean.compute()
        tensor(3.)
    """

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros(()), dist_reduce_fx="sum")

    @override
    def update(self, total: Tensor, weight: Tensor) -> None:
        """Take in a batch.

        Args:
            total: Weighted sum of its values, scalar.
            weight: Sum of the weights, scalar.
        """
        self.total += total.detach()
        self.weight += weight.detach()

    @override
    def compute(self) -> Tensor:
        """Return the mean, a float32 scalar; NaN without any weight."""
        return self.total / self.weight


# Where each model's logits are wanted, for as long as it is called for them: (places, ids of the batch). A global,
# because torch.compile takes tensors that it reaches through a module for ones of fixed shape, and would compile again
# for each number of places. The ids for their shape alone: numbers would be compiled into the graph.
_WANTED: dict[int, tuple[Tensor, Tensor]] = {}

_KEYS = itertools.count()


class ResponseLogits:
    """Makes a causal language model compute its logits at given places of the batch alone.

    A hook in front of the output embedding picks the hidden states of these places out of the flattened batch, so that
    the batch has one row from there on. What the model does to logits (scaling, capping) comes after that. Where
    there is no output embedding, or it is called with something else, all logits are computed and then picked from.

    Args:
        model: A model of transformers, bare or inside peft.
    """

    def __init__(self, model: Any) -> None:
        self._key = next(_KEYS)
        try:
            head = model.get_output_embeddings()
        except (AttributeError, NotImplementedError):
            head = None
        if isinstance(head, nn.Module):
            head.register_forward_pre_hook(self._pick)

    @contextmanager
    def at(self, index: Tensor, ids: Tensor) -> Iterator[None]:
        """Within it, a call of the model gives logits at these places.

        Args:
            index: (n,) int64, places in the flattened batch.
            ids: (batch, length), what the model is called with.
        """
        _WANTED[self._key] = (index, ids)
        try:
            yield
        finally:
            del _WANTED[self._key]

    def picked(self, logits: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
        """Return the logits (n, vocabulary) at the places, from what the model gave.

        Raises:
            ModelError: If it gave logits for neither these places nor for each token of the batch.
        """
        # All of a batch's places are never wanted, the last one of each row predicts nothing: the two shapes differ.
        if logits.shape[:2] == shape:
            return logits.flatten(0, 1).index_select(0, index)
        if logits.shape[:2] == (1, len(index)):
            return logits[0]
        raise ModelError(
            f"the model gave logits of shape {tuple(logits.shape)} for tokens of shape {tuple(shape)}: it is none that "
            "says something about the next token at each token, so it cannot be trained as a causal language model"
        )

    def _pick(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The hook: what it returns are the head's arguments; None leaves them."""
        if self._key not in _WANTED:
            return None
        index, ids = _WANTED[self._key]
        if not args or args[0].dim() != 3 or args[0].shape[:2] != ids.shape:
            return None
        return args[0].flatten(0, 1).index_select(0, index)[None], *args[1:]
