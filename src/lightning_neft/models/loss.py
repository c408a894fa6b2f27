"""The loss of the trained tokens, and its mean over an optimiser step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from lightning_neft.data.tokenization import IGNORED
from lightning_neft.models.blocked_loss import HeadInput, blocked_loss, blocked_scores, each_loss

__all__ = [
    "Predictions",
    "TokenMean",
    "loss_by_source",
    "mean_loss",
    "share_of_step",
    "summed_loss",
    "token_scores",
]


@dataclass(frozen=True)
class Predictions:
    """What a model predicts at the places that have a target.

    Attributes:
        logits: (n, classes), any floating dtype; or hidden states whose logits are computed in blocks where needed.
        targets: (n,) int64, -100 where there is no loss.
        weights: (n,) float32, the weight of each place; None if all have the same.
        auxiliary: Scalar that is added to the loss in training, such as that of a mixture's router; None without one.
    """

    logits: Tensor | HeadInput
    targets: Tensor
    weights: Tensor | None = None
    auxiliary: Tensor | None = None

    def total_weight(self) -> Tensor:
        """Return the sum of the weights, or the number of targets without weights; scalar."""
        counted = self.targets != IGNORED
        return (counted if self.weights is None else counted * self.weights).sum()


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
    logits, weights = predictions.logits, predictions.weights
    if isinstance(logits, HeadInput):
        return blocked_loss(logits, predictions.targets, weights), predictions.total_weight()
    losses = each_loss(logits, predictions.targets)
    return (losses if weights is None else losses * weights).sum(), predictions.total_weight()


@torch.no_grad()
def token_scores(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy at each place, and whether the target has the highest logit.

    Returns:
        (n,) float32 or float64 in nats, 0 where there is no target, and (n,) bool.

    Example:
        >>> token_scores(Predictions(torch.tensor([[0.0, 9.0], [0.0, 9.0]]), torch.tensor([1, -100])))[1]
        tensor([ True, False])
    """
    logits, targets = predictions.logits, predictions.targets
    if isinstance(logits, HeadInput):
        return blocked_scores(logits, targets)
    return each_loss(logits, targets), logits.argmax(-1) == targets


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


def loss_by_source(losses: Tensor, predictions: Predictions, sources: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the losses of each source, and the sum of its weights.

    Args:
        losses: (n,), as from `token_scores`.
        predictions: Their predictions.
        sources: (n,) int64, the number of the source of each place.
        count: Number of sources.

    Returns:
        Two float32 tensors (count,).

    Example:
        >>> predictions = Predictions(torch.zeros(3, 8), torch.tensor([-100, 4, 2]))
        >>> losses = torch.tensor([0.0, 1.0, 3.0])
        >>> loss_by_source(losses, predictions, torch.tensor([0, 1, 1]), 2)
        (tensor([0., 4.]), tensor([0., 2.]))
    """
    weights = (predictions.targets != IGNORED).float()
    if predictions.weights is not None:
        weights = weights * predictions.weights
    zeros = torch.zeros(count, device=losses.device)
    return zeros.index_add(0, sources, losses.float() * weights), zeros.index_add(0, sources, weights)


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

    Args:
        shape: Shape of the sums; a scalar by default.

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

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(shape), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros(shape), dist_reduce_fx="sum")

    @override
    def update(self, total: Tensor, weight: Tensor) -> None:
        """Take in a batch.

        Args:
            total: Weighted sum of its values, in the shape of the sums.
            weight: Sum of the weights, in the same shape.
        """
        self.total += total.detach()
        self.weight += weight.detach()

    @override
    def compute(self) -> Tensor:
        """Return the mean, float32 in the shape of the sums; NaN without any weight."""
        return self.total / self.weight
