"""`NoiseHook`: the forward hook on one embedding, written so that torch.compile traces it without a graph break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_neft.errors import NoNoiseError
from lightning_neft.noise.embedding import EmbeddingTarget
from lightning_neft.noise.functional import Distribution, add_noise, noise, strength_sums
from lightning_neft.noise.lengths import Length, TokenRows
from lightning_neft.noise.matching import match_weight

__all__ = ["NoiseHook", "Strength"]

# Added to the seed at each call, so that each forward pass of a batch has a draw of its own. Odd, hence no repeat in
# 2**64 calls; the operator mixes the sum before it seeds a generator.
_CALL_STEP = 0x632BE59BD9B4E019


@dataclass(frozen=True)
class Strength:
    """How strong the noise of a batch was, over the tokens that got noise; device tensors, nothing is waited for.

    Attributes:
        noise_rms: Root mean square of the noise per element.
        embedding_rms: Root mean square of the embedding's output per element, before the noise.
        noise_to_signal: Their ratio.
        unchanged: Share of the elements that rounding to the activation's dtype left as they were.
    """

    noise_rms: Tensor
    embedding_rms: Tensor
    noise_to_signal: Tensor
    unchanged: Tensor

    @classmethod
    def total(cls, sums: Sequence[Tensor]) -> Strength | None:
        """Strength from the sums of one or several targets (see `strength_sums`); None from none."""
        if not sums:
            return None
        squared_noise, squared_embedding, unchanged, elements = torch.stack([s.to(sums[0].device) for s in sums]).sum(0)
        noise_rms, embedding_rms = (squared_noise / elements).sqrt(), (squared_embedding / elements).sqrt()
        return cls(noise_rms, embedding_rms, noise_rms / embedding_rms, unchanged / elements)


class NoiseHook:
    """Adds noise to what one module returns, while armed and while gradients are enabled.

    All that a compiled graph needs lives in attributes of this plain object: tensors for what varies from batch to
    batch (weights, seed, sums), Python values only for what does not, so that nothing is compiled again.
    """

    def __init__(self, target: EmbeddingTarget, distribution: Distribution) -> None:
        self.target = target
        self.distribution = distribution
        self.is_armed = False
        self.called_without_grad = False
        self._handle: RemovableHandle | None = None
        self._rows: list[TokenRows] = []
        self._alpha = torch.zeros(())
        self._length: Length = "true"
        self._first_seed = torch.zeros((), dtype=torch.int64)
        self._seed = self._first_seed
        self._wanted = torch.zeros((), dtype=torch.bool)
        self._sums = torch.zeros(4)
        self._calls: list[tuple[tuple[int, torch.Size], Tensor]] = []

    def register(self) -> None:
        """Register on the target."""
        self._handle = self.target.module.register_forward_hook(self._add_noise)

    def remove(self) -> None:
        """Remove from the target, and disarm."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        self.disarm()

    def arm(self, rows: Sequence[TokenRows], alpha: float, length: Length, seed: int, measure: bool) -> None:
        """Switch on for one batch.

        Args:
            rows: The rows of tokens of the batch; empty if it says nothing of lengths.
            alpha: Strength of this batch.
            length: The length rule, for a batch that says nothing of lengths.
            seed: Seed of this batch and target.
            measure: Whether to sum up the strength.
        """
        own = [r for r in rows if r.is_decoder == (self.target.side == "decoder")]
        # A decoder without tokens of its own in the batch gets the encoder's, shifted (BART for classification).
        self._rows = own if own and self.target.side in ("encoder", "decoder") else list(rows)
        self._alpha = torch.tensor(alpha)
        self._length = length
        self._first_seed = self._seed = torch.tensor(seed, dtype=torch.int64)
        self._wanted = torch.tensor(measure)
        self._sums = torch.zeros(4, device=self._rows[0].weight.device if self._rows else None)
        self._calls = []
        self.called_without_grad = False
        self.is_armed = True

    def has_landed(self) -> bool:
        """Whether noise was added since `arm`; told by the seed, which moves at each call, compiled or not."""
        return bool(self._seed != self._first_seed)

    def disarm(self) -> Tensor | None:
        """Switch off; returns the strength's sums if they were measured."""
        sums = self._sums if self.is_armed and self._wanted and self.has_landed() else None
        self.is_armed = False
        self._rows, self._calls = [], []
        return sums

    def _add_noise(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
        """The forward hook: what it returns replaces the module's output; None leaves it."""
        if not self.is_armed:
            return None
        if not torch.is_grad_enabled():
            self.called_without_grad = True
            return None
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
            got = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise NoNoiseError(
                f"{self.target.name} returned {got}, not a floating tensor (..., tokens, width): no noise can be "
                "added. Name a module that returns one: target='<name>'."
            )
        ids = args[0] if args and isinstance(args[0], Tensor) else None
        seed = self._next_seed(ids)
        if seed is None:
            return None
        scale = self._weight(output, ids) * (self._alpha * output.shape[-1] ** -0.5)
        # Detached: the noise has no gradient, and the operator none to give.
        clean = output.detach()
        drawn = noise(clean, scale, seed, self.distribution)
        noisy = add_noise(output, drawn)
        sums = strength_sums(clean, drawn, noisy.detach(), scale, self._wanted)
        self._sums = self._sums.to(sums.device) + sums
        return noisy

    def _next_seed(self, ids: Tensor | None) -> Tensor | None:
        """Seed of this call. A call that recomputes an earlier one during backward gets that one's; None: it had none.

        Activation checkpointing runs the forward pass a second time, inside backward. Other noise than the first time
        would make gradients wrong without any error.
        """
        if torch.compiler.is_compiling():
            seed = self._seed
            self._seed = seed + _CALL_STEP
            return seed
        key = (0, torch.Size()) if ids is None else (ids.data_ptr(), ids.shape)
        # As torch.utils.checkpoint tells a recomputation: -1 outside of a backward pass.
        if torch._C._current_graph_task_id() != -1:
            earlier = [seed for called_with, seed in self._calls if called_with == key]
            if not earlier:
                # Ids made inside the checkpointed part have a new address: a single call leaves no doubt all the same.
                earlier = [seed for _, seed in self._calls] if len(self._calls) == 1 else []
            if not earlier and self._calls:
                raise NoNoiseError(
                    f"{self.target.name} is called several times inside activation checkpointing with ids that are "
                    "made there: which noise to repeat is unknown. Make the ids before the checkpointed part."
                )
            # Backward goes through equal calls last to first; the first of them stays for a second backward pass.
            if len(earlier) > 1:
                self._calls.remove((key, earlier[-1]))
            return earlier[-1] if earlier else None
        seed = self._seed
        self._seed = seed + _CALL_STEP
        self._calls.append((key, seed))
        return seed

    def _weight(self, output: Tensor, ids: Tensor | None) -> Tensor:
        """Weight 1 / sqrt(L) of each token of this output: its shape but the last dimension, or broadcastable to it."""
        if self._rows:
            return match_weight(self._rows, output.shape[:-1], ids, self.target.name)
        ones = torch.ones_like(output.detach()[..., 0], dtype=torch.float32)
        # Counted by a tensor operation: a length in Python would be compiled into the graph.
        lengths = ones * self._length if isinstance(self._length, int) else ones.sum(-1, keepdim=True)
        return lengths.rsqrt()
