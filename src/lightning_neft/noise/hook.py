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
from lightning_neft.noise.lengths import Length, TokenRows, padding_or_tokens
from lightning_neft.noise.matching import Layout, Passes, match_weight, rows_of_side, untold_weight
from lightning_neft.noise.tracing import BatchIds

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


@dataclass(frozen=True)
class _Call:
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
        doubt: Bool scalar, True once a call had other ids than the rows that were taken for it, or ids whose padding
            is unclear.
        names_ids: Whether a batch that says nothing of lengths has its token ids under their name, hence as (B, L).
        ids: The tensors of a batch that says nothing of lengths; None if its width alone matters.
        covers_all: Whether all tokens are to get noise, so that a batch may say nothing of them.
        passes: Of the batch, shared by all hooks.
        calls: The eager calls.
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
    ids: BatchIds | None = None
    covers_all: bool = True
    passes: Passes = field(default_factory=Passes)
    calls: list[_Call] = field(default_factory=list)
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
        self._handle = self.target.module.register_forward_hook(self._add_noise, with_kwargs=True)

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
        ids: BatchIds | None = None,
        covers_all: bool = True,
        passes: Passes | None = None,
    ) -> None:
        """Switch on for one batch.

        Args:
            rows: The rows of tokens of the batch; empty if it says nothing of lengths.
            alpha: Strength of this batch.
            length: The length rule, for a batch that says nothing of lengths.
            seed: Seed of this batch and target.
            measure: Whether to sum up the strength.
            names_ids: Whether a batch without rows has its token ids under their name.
            ids: The tensors of a batch without rows; None if its width alone matters.
            covers_all: Whether all tokens are to get noise.
            passes: Of the batch, shared by all hooks.
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
            ids=ids,
            covers_all=covers_all,
            passes=passes or Passes(),
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
    def doubt(self) -> tuple[Tensor, LengthsError] | None:
        """Whether a call since `arm` leaves its lengths unknown, bool scalar, and its error; None if none does."""
        state, name, padding = _STATES[self._key], self.target.name, self.target.padding
        if state.doubt is state.certain:
            return None
        if not state.rows and padding is not None:
            return state.doubt, LengthsError(f"what {name} was called with {padding_or_tokens(padding)}")
        return state.doubt, LengthsError(
            f"{name} was called with ids that are not those of the batch, nor a part of them: their lengths are "
            "unknown. Give the masks of the passes with batch_to_mask, or use length='padded' or a number."
        )

    def disarm(self) -> Tensor | None:
        """Switch off; returns the strength's sums if they were measured."""
        state = _STATES.get(self._key)
        if state is None or not state.is_armed:
            return None
        state.is_armed = False
        state.rows, state.ids = [], None
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

    def _add_noise(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Tensor | None:
        """The forward hook: what it returns replaces the module's output; None leaves it."""
        state = _STATES.get(self._key)
        if state is None:
            return None
        name = self.target.name or type(module).__name__
        given: Any = args[0] if args else next(iter(kwargs.values()), None)
        # Tensor parallelism hands over a DTensor, which cannot be compared with the batch's plain one.
        given = given.full_tensor() if hasattr(given, "full_tensor") else given
        ids = given if isinstance(given, Tensor) else None
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
        if output.is_nested:
            raise LengthsError(
                f"{name} was called with a nested tensor: no noise can be added to what it returns. Pad the ids "
                "(torch.nested.to_padded_tensor) and add attention_mask to the batch."
            )
        if self.target.is_found and ids is not None and ids.is_floating_point():
            raise NoNoiseError(
                f"{name} was found as the input embedding but embeds {ids.dtype} {tuple(ids.shape)}, not token ids. If "
                f"its output is to get the noise all the same: target='{name}'."
            )
        call = _next_call(state, ids, name)
        if call is None:
            return None
        seed = call.seed
        weight = self._weight(state, output, ids, call.number)
        if self.reference_norm is None:
            scale = weight * (state.alpha * output.shape[-1] ** -0.5)
        else:
            # In units of this output's own size, so that noise-to-signal is alpha / sqrt(3 L) / reference_norm.
            relative = token_norm(output, weight) / self.reference_norm
            scale = weight * (state.alpha * output.shape[-1] ** -0.5) * relative
        return self._pairs(state, output, scale, seed) if self.antithetic else self._noisy(state, output, scale, seed)

    def _weight(self, state: _State, output: Tensor, ids: Tensor | None, number: int) -> Tensor:
        """Weight 1 / sqrt(L) of each token of this output: its shape but the last dimension, or broadcastable to it."""
        shape, name = output.shape[:-1], self.target.name
        if state.rows:
            weight, doubt = match_weight(state.rows, shape, ids, name, self.layout, state.passes, number)
        else:
            self._refuse_untold(state, shape, ids)
            padding = self.target.padding
            weight, doubt = untold_weight(output, ids, state.length, padding)
            # A graph does not ask for values, and an error on a device comes later.
            if doubt is not None and padding is not None and doubt.device.type == "cpu" and not _is_compiling():
                if doubt:
                    raise LengthsError(f"what {name} was called with {padding_or_tokens(padding)}")
                doubt = None
        if doubt is not None:
            # Not blocking: from the CPU it would wait for the device.
            state.doubt = state.doubt.to(doubt.device, non_blocking=True) | doubt
        return weight

    def _refuse_untold(self, state: _State, shape: torch.Size, ids: Tensor | None) -> None:
        """Refuse a call in a batch that says nothing of lengths where that leaves them unknown."""
        name = self.target.name
        if not state.covers_all:
            raise LengthsError(
                f"{name} was called with tokens of shape {tuple(shape)} and the batch has no labels for them, so that "
                "prompt and response cannot be distinguished. Add labels (-100 on the prompt), or use scope='all'."
            )
        if state.length != "true":
            return
        if len(shape) == 1:
            raise LengthsError(
                f"{name} was called with tokens of shape {tuple(shape)} and nothing in the batch says of which "
                "sequences they are. Give the mask (B, L) with batch_to_mask, or use a number, length=512. Look up "
                f"what is no sequence (a whole table, candidates) with F.embedding(ids, {name}.weight): it gets no "
                "noise there."
            )
        if state.ids is not None:
            if not _is_compiling():
                state.ids.require(ids, name)
            elif not state.ids.has_tables:
                state.ids.require(None, name)
        if len(shape) == 2 and not state.names_ids and shape[0] > shape[1]:
            raise LengthsError(
                f"{name} was called with tokens of shape {tuple(shape)}, without a mask and without ids named "
                "input_ids: (B, L) or (L, B)? Give the mask (B, L) with batch_to_mask (all 1 if nothing is padding), "
                "or use a number, length=512."
            )

    def _noisy(self, state: _State, output: Tensor, scale: Tensor, seed: Tensor) -> Tensor:
        noisy: Tensor = add_noise(output, scale, seed, self.distribution)
        # In a graph the operator itself looks whether it is wanted.
        if _is_compiling() or state.wanted:
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


def _next_call(state: _State, ids: Tensor | None, name: str) -> _Call | None:
    """This call. One that recomputes an earlier one during backward is that one; None: it had no noise.

    Activation checkpointing runs the forward pass a second time, inside backward. Other noise than the first time would
    make gradients wrong without any error.
    """
    if _is_compiling():
        seed = state.seed
        state.seed = seed + _CALL_STEP
        return _Call(None, seed, 0)
    if not _is_recomputing():
        seed = state.seed
        state.seed = seed + _CALL_STEP
        state.calls.append(_Call(ids, seed, state.passes.next()))
        return state.calls[-1]
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


def _is_compiling() -> bool:
    return torch.compiler.is_compiling()


def _is_recomputing() -> bool:
    # As torch.utils.checkpoint tells a recomputation: -1 outside of a backward pass.
    return not _is_compiling() and torch._C._current_graph_task_id() != -1


def _calls_of(state: _State, ids: Tensor | None) -> list[_Call]:
    """The calls with these ids: the same memory, or equal values of ids that the checkpointed part makes."""
    if ids is None:
        return state.calls
    known = [(call, call.ids) for call in state.calls if call.ids is not None and call.ids.shape == ids.shape]
    same = [call for call, other in known if other.data_ptr() == ids.data_ptr() and other.stride() == ids.stride()]
    return same or [call for call, other in known if torch.equal(other, ids)]
