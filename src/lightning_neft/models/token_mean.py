"""`TokenMean`: a mean over the tokens of many batches and ranks, which waits for no device until it is computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

__all__ = ["TokenMean"]


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
