"""How strong the noise of a batch was, measured on the device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neft.noise.functional import TAGS, noise

__all__ = ["Strength", "strength_sums", "token_norm"]


@dataclass(frozen=True)
class Strength:
    """Strength of the noise of a batch, over the tokens that got noise. Scalars on the device.

    Attributes:
        noise_rms: Root mean square of the noise per element.
        embedding_rms: Root mean square of the embedding's output per element, before the noise.
        noise_to_signal: Their ratio.
        unchanged: Share of the elements that rounding to the activation's dtype left unchanged.
    """

    noise_rms: Tensor
    embedding_rms: Tensor
    noise_to_signal: Tensor
    unchanged: Tensor

    @classmethod
    def total(cls, sums: Sequence[Tensor]) -> Strength | None:
        """Strength from the sums of one or several targets (see `strength_sums`); None without any."""
        if not sums:
            return None
        squared_noise, squared_embedding, unchanged, elements = torch.stack([s.to(sums[0].device) for s in sums]).sum(0)
        noise_rms, embedding_rms = (squared_noise / elements).sqrt(), (squared_embedding / elements).sqrt()
        return cls(noise_rms, embedding_rms, noise_rms / embedding_rms, unchanged / elements)


def token_norm(activation: Tensor, scale: Tensor) -> Tensor:
    """Root mean square, over the tokens whose scale is not 0, of the L2 norm of a token's vector.

    Args:
        activation: (..., d), any floating dtype; no gradient flows through it.
        scale: Scale per token, broadcastable to `activation.shape[:-1]`.

    Returns:
        float32 scalar on the activation's device; sqrt(d) times the RMS per element. 0 if no token has a scale.

    >>> token_norm(torch.tensor([[3.0, 4.0], [9.0, 9.0]]), torch.tensor([0.1, 0.0]))
    tensor(5.)
    """
    covered = (scale != 0).expand(activation.shape[:-1]).to(torch.float32)
    squares = activation.detach().to(torch.float32).square().sum(-1) * covered
    return (squares.sum() / covered.sum().clamp(min=1)).sqrt()


@torch.library.custom_op("lightning_neft::strength_sums", mutates_args=(), tags=TAGS)
def strength_sums(
    clean: Tensor, noisy: Tensor, scale: Tensor, seed: Tensor, distribution: str, wanted: Tensor
) -> Tensor:
    """Sums for the strength of one noisy forward pass, over the tokens whose scale is not 0.

    Draws the noise a second time. Opaque to the compiler on purpose: whether a step measures or not does not change the
    compiled graph.

    Args:
        clean: Activation before the noise, (..., d).
        noisy: Activation after the noise, same shape.
        scale: Scale per token of that noise, broadcastable to `clean.shape[:-1]`.
        seed: Its seed.
        distribution: Its distribution.
        wanted: Bool tensor of one element **on the CPU**; where False nothing is computed.

    Returns:
        float32 tensor of shape (4,): sum of squared noise, sum of squared activations, number of elements that rounding
        left unchanged, number of elements.
    """
    if not wanted.item():
        return torch.zeros(4, device=clean.device)
    covered = (scale != 0).expand(clean.shape[:-1])
    per_token = torch.stack(
        [
            noise(clean, scale, seed, distribution).to(torch.float32).square().sum(-1),
            clean.to(torch.float32).square().sum(-1),
            (noisy == clean).sum(-1, dtype=torch.float32),
            torch.full(covered.shape, float(clean.shape[-1]), device=clean.device),
        ]
    )
    return (per_token * covered).flatten(1).sum(1)


@strength_sums.register_fake
def _strength_sums_fake(
    clean: Tensor, noisy: Tensor, scale: Tensor, seed: Tensor, distribution: str, wanted: Tensor
) -> Tensor:
    return clean.new_empty(4, dtype=torch.float32)
