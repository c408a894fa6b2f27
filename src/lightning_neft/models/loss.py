"""The loss, in float32 and over the places that have a target, and its share of an optimiser step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_neft.data.tokenization import IGNORED

__all__ = ["Predictions", "mean_loss", "share_of_step", "summed_loss"]


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
