"""The forward passes of one batch through one embedding: each draws its own noise, and a recomputed pass repeats it.

Activation checkpointing runs the forward pass a second time, inside backward. Other noise than the first time would
make gradients wrong without any error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_neft.errors import NoNoiseError
from lightning_neft.noise.matching import Passes

__all__ = ["Call", "Calls", "is_compiling", "is_recomputing"]

# Added to the seed at each call, so that each forward pass of a batch has its own draw. Odd, hence no repeat in
# 2**64 calls; the operator mixes the sum before it seeds a generator.
_STEP = 0x632BE59BD9B4E019


@dataclass(frozen=True)
class Call:
    """A call with noise.

    Attributes:
        ids: What the module was called with. Held, so that nothing else gets its memory.
        seed: Seed of the noise.
        number: Its place among the calls of all hooks in this batch.
    """

    ids: Tensor | None
    seed: Tensor
    number: int


@dataclass
class Calls:
    """The calls of one embedding in one batch.

    Attributes:
        first_seed: Seed of the batch, int64 scalar on the CPU.
        seed: Seed of the next call. A new tensor after each call, also inside a compiled graph.
        passes: The passes of the batch, shared by all hooks.
        eager: The calls outside of compiled graphs.
    """

    first_seed: Tensor
    seed: Tensor
    passes: Passes = field(default_factory=Passes)
    eager: list[Call] = field(default_factory=list)

    @property
    def has_noise(self) -> bool:
        """Whether there was a call with noise."""
        return self.seed is not self.first_seed

    def next(self, ids: Tensor | None, name: str) -> Call | None:
        """This call. One that recomputes an earlier call is that call; None if the earlier one had no noise.

        Args:
            ids: What the module was called with, if that was a tensor.
            name: The module's name.

        Raises:
            NoNoiseError: Several earlier calls had these ids.
        """
        if is_recomputing():
            return self._earlier(ids, name)
        seed = self.seed
        self.seed = seed + _STEP
        if is_compiling():
            return Call(None, seed, 0)
        self.eager.append(Call(ids, seed, self.passes.next()))
        return self.eager[-1]

    def with_ids(self, ids: Tensor | None) -> list[Call]:
        """The calls with these ids: the same memory, or equal values of ids that the checkpointed part creates."""
        if ids is None:
            return self.eager
        known = [(call, call.ids) for call in self.eager if call.ids is not None and call.ids.shape == ids.shape]
        same = [call for call, other in known if other.data_ptr() == ids.data_ptr() and other.stride() == ids.stride()]
        return same or [call for call, other in known if torch.equal(other, ids)]

    def _earlier(self, ids: Tensor | None, name: str) -> Call | None:
        if not self.eager:
            return None
        earlier = self.with_ids(ids)
        if len(earlier) != 1:
            # The order in which backward visits equal calls depends on the order of the losses.
            raise NoNoiseError(
                f"activation checkpointing recomputes {name}, and {len(earlier)} of its calls had these ids: which "
                "noise to repeat is unknown. Give each pass its own ids, ids.clone(), before the checkpointed part."
            )
        return earlier[0]


def is_compiling() -> bool:
    """Whether torch.compile traces this code."""
    return torch.compiler.is_compiling()


def is_recomputing() -> bool:
    """Whether a backward pass runs this code, as torch.utils.checkpoint detects it."""
    return not is_compiling() and torch._C._current_graph_task_id() != -1
