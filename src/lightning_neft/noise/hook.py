"""`NoiseHook`: the forward hook on one embedding, written so that torch.compile traces it without a graph break."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_neft.errors import LengthsError, NoNoiseError
from lightning_neft.noise.embedding import EmbeddingTarget
from lightning_neft.noise.functional import Distribution, add_noise, strength_sums, token_norm
from lightning_neft.noise.lengths import Length, TokenRows
from lightning_neft.noise.matching import Layout, match_weight, rows_of_side

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


@dataclass
class _State:
    """What a hook works with during one batch. Tensors for what varies from batch to batch, so that it is not compiled.

    Attributes:
        is_armed: Whether noise is added.
        rows: The rows of tokens of the batch; empty if it says nothing of lengths.
        alpha: Strength, float32 scalar on the CPU.
        length: The length rule, for a batch that says nothing of lengths.
        first_seed: Seed of the batch, int64 scalar on the CPU.
        seed: Seed of the next call; moves at each call, which also tells that noise was added.
        wanted: Whether the strength is to be summed up, bool scalar on the CPU.
        sums: See `strength_sums`.
        certain: Bool scalar, False: what `doubt` is at the start.
        doubt: Bool scalar, True once a call had other ids than the rows that were taken for it.
        names_ids: Whether a batch that says nothing of lengths has its token ids under their name, hence as (B, L).
        calls: Of each eager call, its ids and its seed. Held, so that nothing else gets their memory.
        called_without_grad: Whether a call came with gradients disabled.
    """

    is_armed: bool = False
    rows: list[TokenRows] = field(default_factory=list)
    alpha: Tensor = field(default_factory=lambda: torch.zeros(()))
    length: Length = "true"
    first_seed: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    seed: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    wanted: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.bool))
    sums: Tensor = field(default_factory=lambda: torch.zeros(4))
    certain: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.bool))
    doubt: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.bool))
    names_ids: bool = False
    calls: list[tuple[Tensor | None, Tensor]] = field(default_factory=list)
    called_without_grad: bool = False

    @property
    def has_landed(self) -> bool:
        return bool(self.seed != self.first_seed)


# torch.compile takes every tensor that it reaches through a module, its hooks included, for one of fixed shape and
# compiles again for each length. What it reaches through a global may vary: hence this table, by hook.
_STATES: dict[int, _State] = {}
_KEYS = itertools.count()


class NoiseHook:
    """Adds noise to what one module returns, while armed and while gradients are enabled.

    Args:
        target: The module.
        distribution: What the noise is drawn from.
        reference_norm: Token norm for which alpha is meant, the noise following the module's own; None for the paper's
            scale, which does not look at the output's size.
        antithetic: Whether the second half of the rows gets the noise of the first half with the other sign.
        is_sequence_first: Whether a module around the target takes (L, B).
    """

    def __init__(
        self,
        target: EmbeddingTarget,
        distribution: Distribution = "uniform",
        reference_norm: float | None = None,
        antithetic: bool = False,
        is_sequence_first: bool = False,
    ) -> None:
        self.target = target
        self.distribution = distribution
        self.reference_norm = reference_norm
        self.antithetic = antithetic
        self.layout = Layout(is_sequence_first)
        self._key = next(_KEYS)
        self._handle: RemovableHandle | None = None

    def register(self) -> None:
        """Register on the target."""
        _STATES[self._key] = _State()
        self._handle = self.target.module.register_forward_hook(self._add_noise)

    def remove(self) -> None:
        """Remove from the target, and disarm."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        _STATES.pop(self._key, None)

    def arm(
        self,
        rows: Sequence[TokenRows],
        alpha: float,
        length: Length,
        seed: int,
        measure: bool,
        names_ids: bool = False,
    ) -> None:
        """Switch on for one batch.

        Args:
            rows: The rows of tokens of the batch; empty if it says nothing of lengths.
            alpha: Strength of this batch.
            length: The length rule, for a batch that says nothing of lengths.
            seed: Seed of this batch and target.
            measure: Whether to sum up the strength.
            names_ids: Whether a batch without rows has its token ids under their name.
        """
        used = rows_of_side(rows, self.target.side)
        first_seed = torch.tensor(seed, dtype=torch.int64)
        device = used[0].weight.device if used else None
        certain = torch.zeros((), dtype=torch.bool, device=device)
        _STATES[self._key] = _State(
            is_armed=True,
            rows=used,
            alpha=torch.tensor(alpha),
            length=length,
            first_seed=first_seed,
            seed=first_seed,
            wanted=torch.tensor(measure),
            sums=torch.zeros(4, device=device),
            certain=certain,
            doubt=certain,
            names_ids=names_ids,
        )

    @property
    def is_armed(self) -> bool:
        """Whether it is between `arm` and `disarm`."""
        return self._key in _STATES and _STATES[self._key].is_armed

    @property
    def has_landed(self) -> bool:
        """Whether noise was added since `arm`."""
        return _STATES[self._key].has_landed

    @property
    def called_without_grad(self) -> bool:
        """Whether the target was called with gradients disabled since `arm`."""
        return _STATES[self._key].called_without_grad

    @property
    def doubt(self) -> Tensor | None:
        """Whether a call since `arm` had other ids than its rows: bool scalar; None if that is certain."""
        state = _STATES[self._key]
        return None if state.doubt is state.certain else state.doubt

    def disarm(self) -> Tensor | None:
        """Switch off; returns the strength's sums if they were measured."""
        state = _STATES.get(self._key)
        if state is None or not state.is_armed:
            return None
        state.is_armed = False
        state.rows = []
        return state.sums if state.wanted and state.has_landed else None

    def forget(self) -> None:
        """Forget the calls of the last batch, before one without noise."""
        _STATES[self._key].calls = []

    def __reduce__(self) -> tuple[type[NoiseHook], tuple[EmbeddingTarget, Distribution, float | None, bool, bool]]:
        # A copied or pickled model (weight averaging, say) takes its hooks along; the copy never adds noise.
        return NoiseHook, (
            self.target,
            self.distribution,
            self.reference_norm,
            self.antithetic,
            self.layout.may_be_turned,
        )

    def _add_noise(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
        """The forward hook: what it returns replaces the module's output; None leaves it."""
        state = _STATES.get(self._key)
        if state is None:
            return None
        name = self.target.name or type(module).__name__
        ids = args[0] if args and isinstance(args[0], Tensor) else None
        # Tensor parallelism hands over a DTensor, which cannot be compared with the batch's plain one.
        if ids is not None and hasattr(ids, "full_tensor"):
            ids = ids.full_tensor()
        if not state.is_armed:
            if _is_recomputing() and state.calls and _calls_of(state, ids):
                raise NoNoiseError(
                    f"{name} is computed again in a backward pass that comes after its batch: without its noise the "
                    "gradients would be wrong. Run backward before the noise is disarmed, inside noise.armed(...)."
                )
            return None
        if not torch.is_grad_enabled():
            state.called_without_grad = True
            return None
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
            got = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise NoNoiseError(
                f"{name} returned {got}, not a floating tensor (..., tokens, width): no noise can be added. Name a "
                "module that returns one: target='<name>'."
            )
        seed = _next_seed(state, ids, name)
        if seed is None:
            return None
        weight = self._weight(state, output, ids)
        if self.reference_norm is None:
            scale = weight * (state.alpha * output.shape[-1] ** -0.5)
        else:
            # In units of this output's own size, so that noise-to-signal is alpha / sqrt(3 L) / reference_norm.
            relative = token_norm(output, weight) / self.reference_norm
            scale = weight * (state.alpha * output.shape[-1] ** -0.5) * relative
        return self._pairs(state, output, scale, seed) if self.antithetic else self._noisy(state, output, scale, seed)

    def _weight(self, state: _State, output: Tensor, ids: Tensor | None) -> Tensor:
        """Weight 1 / sqrt(L) of each token of this output: its shape but the last dimension, or broadcastable to it."""
        shape = output.shape[:-1]
        if state.rows:
            weight, doubt = match_weight(state.rows, shape, ids, self.target.name, self.layout)
            if doubt is not None:
                state.doubt = state.doubt.to(doubt.device) | doubt
            return weight
        ones = torch.ones_like(output.detach()[..., 0], dtype=torch.float32)
        if isinstance(state.length, int):
            return (ones * state.length).rsqrt()
        if state.length == "true" and len(shape) == 1:
            raise LengthsError(
                f"{self.target.name} was called with tokens of shape {tuple(shape)} and nothing in the batch says of "
                "which sequences they are. Give the mask (B, L) with batch_to_mask, or use a number, length=512. Look "
                "up what is no sequence (a whole table, candidates) with F.embedding(ids, "
                f"{self.target.name}.weight): it gets no noise there."
            )
        if state.length == "true" and len(shape) == 2 and not state.names_ids and shape[0] > shape[1]:
            raise LengthsError(
                f"{self.target.name} was called with tokens of shape {tuple(shape)}, without a mask and without ids "
                "named input_ids: (B, L) or (L, B)? Give the mask (B, L) with batch_to_mask (all 1 if nothing is "
                "padding), or use a number, length=512."
            )
        # Counted by a tensor operation: a length in Python would be compiled into the graph.
        return ones.sum(-1, keepdim=True).rsqrt()

    def _noisy(self, state: _State, output: Tensor, scale: Tensor, seed: Tensor) -> Tensor:
        noisy: Tensor = add_noise(output, scale, seed, self.distribution)
        # In a graph the operator itself looks whether it is wanted.
        if torch.compiler.is_compiling() or state.wanted:
            sums = strength_sums(output.detach(), noisy.detach(), scale, seed, self.distribution, state.wanted)
            state.sums = state.sums.to(sums.device) + sums
        return noisy

    def _pairs(self, state: _State, output: Tensor, scale: Tensor, seed: Tensor) -> Tensor:
        rows = output.shape[0]
        # A part of the batch has other pairs in its halves, a flattened one none.
        if rows % 2 or output.dim() < 3 or (state.rows and all(row.weight.shape[0] != rows for row in state.rows)):
            raise LengthsError(
                f"{self.target.name} was called with tokens of shape {tuple(output.shape[:-1])}: antithetic pairs need "
                "all rows of the doubled batch in one forward pass, (2 B, L). Feed it whole, or use antithetic=False."
            )
        scale = scale[: rows // 2]
        first = self._noisy(state, output[: rows // 2], scale, seed)
        return torch.cat([first, self._noisy(state, output[rows // 2 :], -scale, seed)])


def _next_seed(state: _State, ids: Tensor | None, name: str) -> Tensor | None:
    """Seed of this call. A call that recomputes an earlier one during backward gets that one's; None: it had none.

    Activation checkpointing runs the forward pass a second time, inside backward. Other noise than the first time would
    make gradients wrong without any error.
    """
    if torch.compiler.is_compiling():
        seed = state.seed
        state.seed = seed + _CALL_STEP
        return seed
    if not _is_recomputing():
        seed = state.seed
        state.seed = seed + _CALL_STEP
        state.calls.append((ids, seed))
        return seed
    if not state.calls:
        return None
    earlier = _calls_of(state, ids)
    if len(earlier) != 1:
        # In which order backward goes through equal calls depends on the order of the losses.
        raise NoNoiseError(
            f"{name} is computed again by activation checkpointing and {len(earlier)} of its calls had these ids: "
            "which noise to repeat is unknown. Give each pass its own ids, ids.clone(), before the checkpointed part."
        )
    return earlier[0]


def _is_recomputing() -> bool:
    # As torch.utils.checkpoint tells a recomputation: -1 outside of a backward pass.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _calls_of(state: _State, ids: Tensor | None) -> list[Tensor]:
    """Seeds of the calls with these ids: the same memory, or equal values of ids that the checkpointed part makes."""
    if ids is None:
        return [seed for _, seed in state.calls]
    known = [(other, seed) for other, seed in state.calls if other is not None and other.shape == ids.shape]
    same = [seed for other, seed in known if other.data_ptr() == ids.data_ptr() and other.stride() == ids.stride()]
    return same or [seed for other, seed in known if torch.equal(other, ids)]
