"""`NoiseHook`: the forward hook on one embedding, written so that torch.compile traces it without a graph break."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_neft.errors import LengthsError, NoNoiseError
from lightning_neft.noise.antithetic import halves
from lightning_neft.noise.calls import Calls, is_compiling, is_recomputing
from lightning_neft.noise.embedding import EmbeddingTarget
from lightning_neft.noise.functional import Distribution, add_noise
from lightning_neft.noise.lengths import TokenRows
from lightning_neft.noise.matching import Layout, Passes, match_weight
from lightning_neft.noise.strength import strength_sums, token_norm
from lightning_neft.noise.undescribed import UndescribedBatch, padding_doubt, undescribed_weight

__all__ = ["NoiseHook"]


@dataclass
class _State:
    """What a hook works with during one batch. Tensors for what varies between batches, so that it is not compiled.

    Attributes:
        calls: The calls with noise.
        rows: The rows of tokens of the batch; empty if no field describes them.
        undescribed: The batch, if it has no such rows; else None.
        alpha: Strength, float32 scalar on the CPU.
        is_measured: Whether the strength is summed up.
        wanted: The same as a bool scalar on the CPU, for the operator.
        sums: See `strength_sums`.
        certain: Bool scalar, False: what `doubt` is at the start.
        doubt: Bool scalar, True once a call had other ids than the rows that were taken for it, or ids whose padding
            is unclear.
        is_armed: Whether noise is added.
        called_without_grad: Whether a call came with gradients disabled.
    """

    calls: Calls
    rows: Sequence[TokenRows]
    undescribed: UndescribedBatch | None
    alpha: Tensor
    is_measured: bool
    wanted: Tensor
    sums: Tensor
    certain: Tensor
    doubt: Tensor
    is_armed: bool = True
    called_without_grad: bool = False


# torch.compile treats every tensor that it reaches through a module, its hooks included, as one of fixed shape and
# recompiles for each length. What it reaches through a global may vary: hence this table, by hook.
_STATES: dict[int, _State] = {}
_KEYS = itertools.count()
_BOOLS = {value: torch.tensor(value) for value in (False, True)}


class NoiseHook:
    """Adds noise to what one module returns, while armed and while gradients are enabled.

    Args:
        target: The module.
        distribution: Distribution of the noise.
        reference_norm: Token norm for which alpha is meant, the noise following the module's own; None for the paper's
            scale, which does not depend on the output's size.
        antithetic: Whether the second half of the rows gets the noise of the first half with the opposite sign.
        is_sequence_first: Whether a module around the target takes (L, B).
        exclude: Token ids that get no noise.
    """

    def __init__(
        self,
        target: EmbeddingTarget,
        distribution: Distribution = "uniform",
        reference_norm: float | None = None,
        antithetic: bool = False,
        is_sequence_first: bool = False,
        exclude: Sequence[int] = (),
    ) -> None:
        self.target = target
        self.distribution = distribution
        self.reference_norm = reference_norm
        self.antithetic = antithetic
        self.layout = Layout(is_sequence_first)
        self.exclude = exclude
        self._excluded = torch.tensor(exclude, dtype=torch.int64)
        self._key = next(_KEYS)
        self._handle: RemovableHandle | None = None

    def register(self) -> None:
        """Register on the target."""
        # A compiled graph then finds the state of a disarmed hook, before the first batch as after it.
        self.arm((), None, alpha=0.0, seed=0, measure=False)
        _STATES[self._key].is_armed = False
        self._handle = self.target.module.register_forward_hook(self._add_noise, with_kwargs=True)
        # Compiled code does not notice a hook that its module gets later: it would run without noise, silently.
        if "torch._dynamo" in sys.modules:
            from torch._dynamo.utils import counters

            if counters["stats"]["unique_graphs"]:
                torch._dynamo.reset()

    def remove(self) -> None:
        """Remove from the target, and disarm."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        _STATES.pop(self._key, None)

    def arm(
        self,
        rows: Sequence[TokenRows],
        undescribed: UndescribedBatch | None,
        alpha: float,
        seed: int,
        measure: bool,
        passes: Passes | None = None,
    ) -> None:
        """Switch on for one batch.

        Args:
            rows: The rows of tokens that the target may be called with; empty if no field of the batch describes them.
            undescribed: The batch, if `rows` is empty.
            alpha: Strength of this batch.
            seed: Seed of this batch and target.
            measure: Whether to sum up the strength.
            passes: The passes of the batch, shared by all hooks.
        """
        first_seed = torch.tensor(seed, dtype=torch.int64)
        device = rows[0].weight.device if rows else torch.device("cpu")
        certain, sums = _zeros(device)
        _STATES[self._key] = _State(
            calls=Calls(first_seed, first_seed, passes or Passes()),
            rows=rows,
            undescribed=undescribed,
            alpha=torch.tensor(alpha, dtype=torch.float32),
            is_measured=measure,
            wanted=_BOOLS[measure],
            sums=sums,
            certain=certain,
            doubt=certain,
        )

    @property
    def is_armed(self) -> bool:
        """Whether it is between `arm` and `disarm`."""
        state = _STATES.get(self._key)
        return state is not None and state.is_armed

    @property
    def has_landed(self) -> bool:
        """Whether noise was added since `arm`."""
        return _STATES[self._key].calls.has_noise

    @property
    def called_without_grad(self) -> bool:
        """Whether the target was called with gradients disabled since `arm`."""
        return _STATES[self._key].called_without_grad

    @property
    def doubt(self) -> tuple[Tensor, LengthsError] | None:
        """Whether a call since `arm` leaves its lengths unknown, bool scalar, and its error; None if none does."""
        state, name, padding = _STATES[self._key], self.target.label, self.target.padding
        if state.doubt is state.certain:
            return None
        if not state.rows and padding is not None:
            return state.doubt, padding_doubt(name, padding)
        return state.doubt, LengthsError(
            f"{name} was called with ids that are neither those of the batch nor a part of them, so their lengths are "
            "unknown. Return the masks of the passes from batch_to_mask, or use length='padded' or a number."
        )

    def disarm(self) -> Tensor | None:
        """Switch off; returns the strength's sums if they were measured."""
        state = _STATES.get(self._key)
        if state is None or not state.is_armed:
            return None
        state.is_armed = False
        state.rows, state.undescribed = (), None
        return state.sums if state.is_measured and state.calls.has_noise else None

    def forget(self) -> None:
        """Forget the calls of the last batch, before one without noise."""
        _STATES[self._key].calls.eager.clear()

    def __reduce__(self) -> tuple[type[NoiseHook], tuple[Any, ...]]:
        # A copied or pickled model (weight averaging, for example) copies its hooks; the copy never adds noise.
        return NoiseHook, (
            self.target,
            self.distribution,
            self.reference_norm,
            self.antithetic,
            self.layout.may_be_turned,
            self.exclude,
        )

    def _add_noise(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Tensor | None:
        """The forward hook: what it returns replaces the module's output; None keeps it."""
        state = _STATES.get(self._key)
        if state is None:
            return None
        name = self.target.label
        given: Any = args[0] if args else next(iter(kwargs.values()), None)
        # Tensor parallelism passes a DTensor, which cannot be compared with the batch's plain one.
        given = given.full_tensor() if hasattr(given, "full_tensor") else given
        ids = given if isinstance(given, Tensor) else None
        if not state.is_armed:
            if is_recomputing() and state.calls.eager and state.calls.with_ids(ids):
                raise NoNoiseError(
                    f"a backward pass after the end of its batch recomputes {name}: without its noise the gradients "
                    "would be wrong. Run backward before the noise is disarmed, inside noise.armed(...)."
                )
            return None
        if not torch.is_grad_enabled():
            state.called_without_grad = True
            return None
        _check_output(output, ids, name, self.target.is_found)
        call = state.calls.next(ids, name)
        if call is None:
            return None
        weight = self._weight(state, output, ids, call.number)
        if self.exclude:
            weight = weight * self._is_included(output, ids)
        scale = weight * (state.alpha * output.shape[-1] ** -0.5)
        if self.reference_norm is not None:
            # In units of this output's own size, so that noise-to-signal is alpha / sqrt(3 L) / reference_norm.
            scale = scale * (token_norm(output, weight) / self.reference_norm)
        if not self.antithetic:
            return self._noisy(state, output, scale, call.seed)
        first, second = halves(output, [row.weight.shape[0] for row in state.rows], name)
        scale = scale[: first.shape[0]]
        return torch.cat([self._noisy(state, first, scale, call.seed), self._noisy(state, second, -scale, call.seed)])

    def _weight(self, state: _State, output: Tensor, ids: Tensor | None, number: int) -> Tensor:
        """Weight 1 / sqrt(L) of each token of this output: its shape but the last dimension, or broadcastable to it."""
        shape, name, padding = output.shape[:-1], self.target.label, self.target.padding
        if state.undescribed is None:
            weight, doubt = match_weight(state.rows, shape, ids, name, self.layout, state.calls.passes, number)
        else:
            state.undescribed.check(name, shape, ids)
            weight, doubt = undescribed_weight(output, ids, state.undescribed.length, padding)
            # A graph does not read values, and an error on a device comes later.
            if doubt is not None and padding is not None and doubt.device.type == "cpu" and not is_compiling():
                if doubt:
                    raise padding_doubt(name, padding)
                doubt = None
        if doubt is not None:
            # Not blocking: from the CPU it would wait for the device.
            state.doubt = state.doubt.to(doubt.device, non_blocking=True) | doubt
        # A mask that is made of lists, or a batch that the module moves itself, is on the CPU.
        return weight.to(output.device, non_blocking=True)

    def _is_included(self, output: Tensor, ids: Tensor | None) -> Tensor:
        """Whether each token of this output is not one of those without noise; bool of the ids' shape."""
        if ids is None or ids.is_floating_point() or ids.shape != output.shape[:-1]:
            got = "no ids" if ids is None else f"{ids.dtype} {tuple(ids.shape)}"
            raise NoNoiseError(
                f"exclude={self.exclude!r} names token ids, but {self.target.label} was called with {got} and returned "
                f"{tuple(output.shape)}: omit exclude, or name the module that embeds the ids as target."
            )
        self._excluded = self._excluded.to(ids.device, non_blocking=True)
        return ~torch.isin(ids, self._excluded)

    def _noisy(self, state: _State, output: Tensor, scale: Tensor, seed: Tensor) -> Tensor:
        noisy: Tensor = add_noise(output, scale, seed, self.distribution)
        # In a graph the operator itself reads whether it is wanted.
        if is_compiling() or state.is_measured:
            sums = strength_sums(output.detach(), noisy.detach(), scale, seed, self.distribution, state.wanted)
            state.sums = state.sums.to(sums.device) + sums
        return noisy


def _check_output(output: Any, ids: Tensor | None, name: str, is_found: bool) -> None:
    """Refuse a call whose output cannot get noise."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
        got = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise NoNoiseError(
            f"{name} returned {got}, not a floating tensor (..., tokens, width): no noise can be added. Name a "
            "module that returns one: target='<name>'."
        )
    if output.is_nested:
        raise LengthsError(
            f"{name} was called with a nested tensor: no noise can be added to its output. Pad the ids "
            "(torch.nested.to_padded_tensor) and add attention_mask to the batch."
        )
    if is_found and ids is not None and ids.is_floating_point():
        raise NoNoiseError(
            f"{name} was detected as the input embedding but embeds {ids.dtype} {tuple(ids.shape)}, not token ids. To "
            f"add noise to its output anyway: target='{name}'."
        )


@cache
def _zeros(device: torch.device) -> tuple[Tensor, Tensor]:
    """A bool scalar and four numbers to start from, equal for all batches: nothing writes to them."""
    return torch.zeros((), dtype=torch.bool, device=device), torch.zeros(4, device=device)
