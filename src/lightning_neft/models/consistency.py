"""The consistency of antithetic pairs: how far the predictions with a noise and with its negative are apart."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_neft.data.tokenization import IGNORED
from lightning_neft.errors import ConfigError
from lightning_neft.models.blocked_loss import HeadInput, parts
from lightning_neft.models.loss import Predictions
from lightning_neft.noise.injector import EmbeddingNoise

__all__ = ["antithetic_noise", "check_pairs", "pair_divergence"]


def antithetic_noise(trainer: L.Trainer) -> EmbeddingNoise | None:
    """Return the antithetic noise that a callback of the Trainer adds; None without one."""
    noises = (getattr(callback, "noise", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return next((noise for noise in noises if isinstance(noise, EmbeddingNoise) and noise.antithetic), None)


def check_pairs(consistency: float, is_antithetic: bool) -> None:
    """Check that a weight of the term has pairs to act on.

    Raises:
        ConfigError: If there is a weight, and no antithetic noise.
    """
    if consistency and not is_antithetic:
        raise ConfigError(
            f"model.consistency={consistency:g} compares the two noises of an antithetic pair; set "
            "neftune.antithetic=true"
        )


def pair_divergence(predictions: Predictions) -> Tensor:
    """Return the mean symmetric Kullback-Leibler divergence between the two halves of a doubled batch, in nats.

    (KL(p || q) + KL(q || p)) / 2 at each place with a target, with the weights of the loss: the term of R-Drop (Liang
    et al., arXiv 2106.14448) and R3F (Aghajanyan et al., arXiv 2008.03156), here between two noises. Logits are
    computed in blocks, and again in the backward pass.

    Args:
        predictions: Of a batch whose second half repeats the samples of the first.

    Returns:
        A scalar with gradients, float32 or float64; 0 where there is no target.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
        >>> round(pair_divergence(Predictions(logits, torch.tensor([1, 1]))).item(), 4)
        0.6789
    """
    logits = predictions.logits
    count = len(predictions.targets) // 2
    weights = (predictions.targets[:count] != IGNORED).float()
    if predictions.weights is not None:
        weights = weights * predictions.weights[:count]
    if isinstance(logits, HeadInput):
        total = logits.states.new_zeros((), dtype=torch.promote_types(logits.states.dtype, torch.float32))
        for part in parts(logits, count):
            total = total + checkpoint(_of_block, logits, part, count, weights[part], use_reentrant=False)
    else:
        total = _divergence(logits[:count], logits[count:], weights)
    weight = weights.sum()
    # Without a branch on the weight, which would wait for the device.
    return total / torch.where(weight > 0, weight, 1)


def _of_block(inputs: HeadInput, part: slice, count: int, weights: Tensor) -> Tensor:
    partner = slice(part.start + count, part.stop + count)
    return _divergence(inputs.logits(part), inputs.logits(partner), weights)


def _divergence(one: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    dtype = torch.promote_types(one.dtype, torch.float32)
    one, other = one.to(dtype).log_softmax(-1), other.to(dtype).log_softmax(-1)
    # The mean of both directions: sum (p - q) (log p - log q) / 2.
    return (((one.exp() - other.exp()) * (one - other)).sum(-1) * weights).sum() / 2
