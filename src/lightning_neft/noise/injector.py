"""`EmbeddingNoise`: attaches to a module, and adds noise to its token embedding between `arm` and `disarm`."""

from __future__ import annotations

import math
import numbers
import operator
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeGuard, get_args

import torch
from torch import nn

from lightning_neft.errors import ConfigError, DuplicateNoiseError, LengthsError, NEFTError, NoNoiseError
from lightning_neft.noise.diagnosis import explain_missing_noise
from lightning_neft.noise.documents import PaddingId
from lightning_neft.noise.embedding import (
    EmbeddingTarget,
    Target,
    check_target,
    find_embeddings,
    sequence_first_module,
)
from lightning_neft.noise.fields import Part, parts, tensors
from lightning_neft.noise.functional import Distribution, mix_seed
from lightning_neft.noise.hook import NoiseHook, Strength
from lightning_neft.noise.late import LateErrors
from lightning_neft.noise.lengths import GIVEN, BatchToMask, Length, Scope, TokenRows, find_token_rows
from lightning_neft.noise.matching import Passes
from lightning_neft.noise.tracing import BatchIds
from lightning_neft.noise.unread import check_unread

__all__ = ["EmbeddingNoise", "Scale", "check_alpha", "check_integer"]

Scale = Literal["paper", "relative"]
_Flag = tuple[torch.Tensor, NEFTError]

# Places in a long list, which is one of samples; those in a tuple such as (ids, mask) have a meaning.
_PLACE_OF_SAMPLE = re.compile(r"\[([4-9]|\d\d+)\]")
# Kinds of batches that are remembered: more are not looked at, for their keys may be new in every batch.
_MOST_KINDS = 64

# The scale is computed in float32, where more is infinite.
_LARGEST = torch.finfo(torch.float32).max


def check_alpha(alpha: object) -> float:
    """Return alpha as a float, or raise ConfigError if it is not a finite number of at least 0."""
    if not _is_finite(alpha) or not 0 <= alpha <= _LARGEST:
        raise ConfigError(f"alpha={alpha!r}: use a finite number >= 0; the paper's values are 5, 10 and 15, 0 is off.")
    return float(alpha)


def _is_finite(value: object) -> TypeGuard[float]:
    # By what they are, not by class: numpy's numbers are numbers too.
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)


def check_integer(name: str, value: Any) -> int:
    """Return an integer of Python, numpy or a tensor as an int, or raise ConfigError."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{name}={value!r}: use an integer.") from None


def _check_length(length: Any) -> Length:
    if length in ("true", "padded"):
        return length  # type: ignore[no-any-return]
    if isinstance(length, bool) or not isinstance(length, numbers.Integral) or length < 1:
        raise ConfigError(f"length={length!r}: use 'true', 'padded' or a number of tokens >= 1.")
    return int(length)


class EmbeddingNoise:
    """NEFTune's noise for any training loop: attached to a model, armed for one batch at a time.

    Args:
        alpha: Strength; 0 adds nothing.
        distribution: `uniform` (the paper), `gaussian` (of the uniform's variance), `gaussian_unit` (variance 1) or
            `rademacher` (signs).
        length: L of alpha / sqrt(L d): `true` (tokens of the sequence, or of the document in a packed row), `padded`
            (the width of the batch and noise on padding too, as in transformers), or a fixed number of tokens.
        scope: Tokens that get noise: `all`, `prompt` or `response` (labels of -100 mark the prompt). In an
            encoder-decoder the prompt is what the encoder reads and the response what the decoder reads.
        scale: `paper` as above; `relative` takes alpha in units of the embedding's own size, see below.
        reference_norm: With `relative`, the token norm of the model that alpha is meant for.
        antithetic: Whether the second half of a batch gets the noise of the first half with the other sign; the batch
            has to be doubled for it, see `lightning_neft.noise.antithetic.double_rows`.
        target: The module(s) to put noise on, see `find_embeddings`; None to find the token embedding.
        seed: Start of the noise; it is a pure function of (seed, rank, step, call in the batch).
        batch_to_mask: From a batch to its mask (B, L), for batches that are not understood otherwise, or to a list of
            masks, one for each forward pass. Masks of one shape belong to the passes in their order.

    Raises:
        ConfigError: An argument has a value that it cannot have.

    The relative scale is alpha / sqrt(L d) * (norm / reference_norm), norm being the root mean square, over the batch's
    noised tokens, of the L2 norm of what the embedding returns for a token. The noise-to-signal of a sequence of L
    tokens is then alpha / sqrt(3 L) / reference_norm (uniform noise) on any model. With a reference_norm of 1 alpha is
    meant for no model; with the token norm of another model (`lightning_neft doctor` measures it) the noise-to-signal
    is the one that the paper's scale has there.

    Noise in a loop of your own takes two lines, the first and the `with`:

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(8, 4), torch.nn.Linear(4, 1))
    >>> noise = EmbeddingNoise(alpha=5).attach(model)
    >>> ids = torch.tensor([[1, 2, 3]])
    >>> for step in range(2):
    ...     with noise.armed({"input_ids": ids}, step):
    ...         model(ids).sum().backward()
    >>> noise.detach()
    """

    def __init__(
        self,
        alpha: float = 5.0,
        *,
        distribution: Distribution = "uniform",
        length: Length = "true",
        scope: Scope = "all",
        scale: Scale = "paper",
        reference_norm: float = 1.0,
        antithetic: bool = False,
        target: Target | None = None,
        seed: int = 0,
        batch_to_mask: BatchToMask | None = None,
    ) -> None:
        self.alpha = check_alpha(alpha)
        if distribution not in get_args(Distribution):
            raise ConfigError(f"distribution={distribution!r}: use one of {', '.join(get_args(Distribution))}.")
        if scope not in get_args(Scope):
            raise ConfigError(f"scope={scope!r}: use one of {', '.join(get_args(Scope))}.")
        if scale not in get_args(Scale):
            raise ConfigError(f"scale={scale!r}: use one of {', '.join(get_args(Scale))}.")
        if not _is_finite(reference_norm) or reference_norm <= 0:
            raise ConfigError(f"reference_norm={reference_norm!r}: use a finite number > 0.")
        if scale == "paper" and reference_norm != 1:
            raise ConfigError(f"reference_norm={reference_norm!r} needs scale='relative': the paper's scale has none.")
        if not isinstance(antithetic, bool):
            raise ConfigError(f"antithetic={antithetic!r}: use True or False.")
        if batch_to_mask is not None and not callable(batch_to_mask):
            raise ConfigError(
                f"batch_to_mask={batch_to_mask!r}: use a function from the batch to its mask (B, L), for example "
                "lambda batch: batch['mask']."
            )
        check_target(target)
        self.distribution: Distribution = distribution
        self.length: Length = _check_length(length)
        self.scope: Scope = scope
        self.scale: Scale = scale
        self.reference_norm = float(reference_norm)
        self.antithetic = antithetic
        self.target = target
        self.seed = check_integer("seed", seed)
        self.batch_to_mask = batch_to_mask
        self._root: nn.Module | None = None
        self._hooks: list[NoiseHook] = []
        self._sequence_first: str | None = None
        self._kinds: dict[frozenset[tuple[str, int]], set[object]] = {}
        self._is_new_kind = True
        self._passes = Passes()
        self._unread: Callable[[], None] | None = None
        self._late = LateErrors()
        self._flags: list[_Flag] = []
        self.way_out = "If this batch trains another part: armed(..., required=False)."
        """What the error of a batch without noise ends with."""
        self.found_in = ""
        """The fields of the last armed batch that its lengths were read from, for people."""

    @property
    def targets(self) -> list[EmbeddingTarget]:
        """Where noise is applied; empty while not attached."""
        return [hook.target for hook in self._hooks]

    @property
    def reads_batch(self) -> bool:
        """Whether the noise depends on what is in the batch; the padded form needs the output's width alone."""
        return self.length != "padded" or self.scope != "all"

    @property
    def lack(self) -> str | None:
        """Why the armed batch has no noise so far, for people; None if it has, or if nothing is armed."""
        missing = next((hook for hook in self._hooks if hook.is_armed and not hook.has_landed), None)
        if missing is None or self._root is None:
            return None
        return f"{explain_missing_noise(self._root, missing)} {self.way_out}"

    def attach(self, module: nn.Module) -> EmbeddingNoise:
        """Find the token embedding(s) of `module` and register a forward hook on each; attaching again moves it.

        Raises:
            EmbeddingNotFoundError: No token embedding, or none under the target's name.
            AmbiguousEmbeddingError: Several candidates and no target.
            DuplicateNoiseError: transformers' own noise is on the embedding already.
        """
        self.detach()
        targets = find_embeddings(module, self.target)
        for target in targets:
            _refuse_transformers_noise(target)
        self._root = module
        self._kinds = {}
        self._passes = Passes()
        self._sequence_first = sequence_first_module(module)
        reference_norm = self.reference_norm if self.scale == "relative" else None
        self._hooks = [
            NoiseHook(target, self.distribution, reference_norm, self.antithetic, self._sequence_first is not None)
            for target in targets
        ]
        for hook in self._hooks:
            hook.register()
        _forget_compiled_code()
        return self

    def detach(self, *, verify: bool = True) -> None:
        """Remove the hooks; the module is as it was. Harmless if not attached.

        Args:
            verify: Whether to raise what batches on a device are found to lack only now.

        Raises:
            NEFTError: See `check`.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._root = None
        if verify:
            self.check()
        self._late.forget()

    def check(self) -> None:
        """Raise what earlier batches on a device turn out to lack; waits for the device.

        On the CPU `disarm` raises at once. On another device it does so for the first batch after `attach`, and for
        later ones within 128 batches, so that nothing waits.

        Raises:
            NoNoiseError: A mask left no token.
            LengthsError: The ids were not those of the batch.
        """
        self._late.settle()

    def arm(self, batch: Any, step: int, *, rank: int = 0, alpha: float | None = None, measure: bool = False) -> None:
        """Switch the noise on for one training batch.

        Args:
            batch: What the loop gives to the model, on its device: the lengths are read from it.
            step: Number of this (micro-)batch since the start of training, also after a resume.
            rank: Data-parallel rank: ranks draw different noise.
            alpha: Alpha of this batch, if it is not the constructor's.
            measure: Whether `disarm` is to tell the strength.

        Raises:
            NoNoiseError: Not attached.
            LengthsError: The batch's lengths cannot be read.
            ConfigError: `step` or `rank` is not an integer.
        """
        if not self._hooks:
            raise NoNoiseError("EmbeddingNoise is not attached to a model: call attach(model) first.")
        alpha = self.alpha if alpha is None else check_alpha(alpha)
        step, rank = check_integer("step", step), check_integer("rank", rank)
        for hook in self._hooks:
            _refuse_transformers_noise(hook.target)
        if alpha == 0:
            self.disarm(verify=False)
            for hook in self._hooks:
                hook.forget()
            return
        rows = self.rows_of(batch)
        ids = self._checked(batch, rows) if self.reads_batch else None
        names_ids = bool(rows)
        if all(not row.is_told for row in rows):
            # Each call has the length of its own ids.
            rows = []
        self.found_in = ", ".join(dict.fromkeys(row.source for row in rows)) or "the width of the embedding's output"
        self._passes = Passes(are_in_order=self._passes.are_in_order)
        for index, hook in enumerate(self._hooks):
            seed = mix_seed(self.seed, rank, step, index)
            covers_all = self.scope == "all"
            hook.arm(rows, alpha, self.length, seed, measure, names_ids, ids, covers_all, self._passes)
        self._flags = self._flags_of(rows, step)

    def rows_of(self, batch: Any) -> list[TokenRows]:
        """The rows of tokens of a batch, as the hooks are armed with; empty where nothing in it matters.

        Raises:
            LengthsError: The batch's lengths cannot be read.
        """
        if not self.reads_batch:
            return []
        return find_token_rows(
            batch,
            length=self.length,
            scope=self.scope,
            batch_to_mask=self.batch_to_mask,
            seq2seq=any(hook.target.is_seq2seq for hook in self._hooks),
            slots=[slot for hook in self._hooks for slot in hook.target.slots],
            padding=self._padding,
            untold=True,
        )

    def _checked(self, batch: Any, rows: Sequence[TokenRows]) -> BatchIds:
        """Refuse a batch that may say more of its padding than its rows do; returns its tensors."""
        is_told = isinstance(self.length, int) or (
            rows and all(row.source == GIVEN or row.documents.dim() == 1 for row in rows)
        )
        held = parts(batch)
        known = self._seen(held)
        untold = [row.ids for row in rows if not row.is_told and row.ids is not None]
        self._unread = None
        if self._is_new_kind and (untold or not rows):
            self._unread = partial(check_unread, held, untold, has_padding=self._padding is not None)
            if len(self._kinds) == 1:
                self._settle_unread()
        if self._sequence_first and not is_told:
            raise LengthsError(
                f"{self._sequence_first} has batch_first=False, so that the tokens may be (B, L) or (L, B): give the "
                "mask, always (B, L), with batch_to_mask, or a number of tokens, length=512."
            )
        return BatchIds([part.value for part in tensors(held)], untold, self._is_new_kind, known)

    @property
    def _padding(self) -> PaddingId | None:
        """The id of padding that all targets agree on."""
        found = {hook.target.padding for hook in self._hooks}
        return found.pop() if len(found) == 1 else None

    def _seen(self, held: list[Part]) -> set[object]:
        """Note the kind of a batch, which its keys decide; returns what is known of batches of this kind."""
        kind = frozenset(
            (_PLACE_OF_SAMPLE.sub("[]", part.path), part.value.dim() if isinstance(part.value, torch.Tensor) else -1)
            for part in held
        )
        self._is_new_kind = kind not in self._kinds and len(self._kinds) < _MOST_KINDS
        return self._kinds.setdefault(kind if self._is_new_kind or kind in self._kinds else frozenset(), set())

    def _settle_unread(self) -> None:
        """Refuse the armed batch if something in it that nothing reads may say which tokens are padding.

        Of a later kind of batches this is asked once it got noise: it may train another part of the model.
        """
        unread, self._unread = self._unread, None
        if unread is not None:
            unread()

    def _flags_of(self, rows: Sequence[TokenRows], step: int) -> list[_Flag]:
        """What is known of a batch only on its device: bools, each with its error."""
        flags: list[_Flag] = []
        if rows:
            device = rows[0].weight.device
            strongest = torch.stack([row.weight.amax().to(device) for row in rows]).amax()
            flags.append((strongest == 0, _no_token(self.found_in, step, self.scope)))
        for row in rows:
            if row.doubt is not None:
                flag, reason = row.doubt
                flags.append((flag, LengthsError(f"{row.source} in training batch {step} {reason}")))
        return flags

    def disarm(self, *, verify: bool = True, required: bool = True) -> Strength | None:
        """Switch the noise off.

        Args:
            verify: Whether to raise if something was wrong with the noise of this batch.
            required: Whether this batch has to get noise; False for one that may train another part of the model.

        Returns:
            The strength of the noise if `arm` was told to measure it, else None.

        Raises:
            NoNoiseError: The batch ended without noise; says why and what to do.
            LengthsError: The embedding was called with ids that are not those of the batch.
        """
        armed = [hook for hook in self._hooks if hook.is_armed]
        lack = self.lack if verify and required else None
        has_landed = any(hook.has_landed for hook in armed)
        flags, self._flags = self._flags, []
        flags += [doubt for hook in armed if (doubt := hook.doubt) is not None]
        strengths = [hook.disarm() for hook in self._hooks]
        if lack is not None:
            raise NoNoiseError(lack)
        if verify and has_landed:
            self._settle_unread()
            if self._passes.by_order and self._passes.by_order != self._passes.count:
                raise _other_count(self._passes)
            for flag, error in flags:
                self._late.add(flag, error)
            if self._is_new_kind:
                self._late.settle()
            self._late.end_batch()
        return Strength.total([strength for strength in strengths if strength is not None])

    @contextmanager
    def armed(
        self, batch: Any, step: int, *, rank: int = 0, alpha: float | None = None, required: bool = True
    ) -> Iterator[EmbeddingNoise]:
        """Armed for the forward and backward pass of one batch; arguments as in `arm`, `required` as in `disarm`.

        Raises:
            NoNoiseError: The block ended without noise. An exception from the block itself comes first.
        """
        self.arm(batch, step, rank=rank, alpha=alpha)
        try:
            yield self
        except BaseException:
            self.disarm(verify=False)
            raise
        self.disarm(required=required)

    def __enter__(self) -> EmbeddingNoise:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.detach(verify=kind is None)

    def __getstate__(self) -> dict[str, Any]:
        # A copy (an averaged model, a process that is spawned) is attached to nothing and armed for nothing.
        return {**self.__dict__, "_root": None, "_hooks": [], "_late": LateErrors(), "_flags": [], "_unread": None}


def _no_token(source: str, step: int, scope: str) -> NoNoiseError:
    return NoNoiseError(
        f"NEFTune added no noise in training batch {step}: no token of {source} is to get any. Check that the mask is "
        f"1 on tokens (and labels, with scope={scope!r}); for one of 0 and -inf give batch_to_mask=lambda batch: "
        "batch['attention_mask'] == 0."
    )


def _other_count(passes: Passes) -> LengthsError:
    return LengthsError(
        f"batch_to_mask gave {passes.by_order} masks, some of one shape, for {passes.count} forward passes with "
        "gradients: only the order distinguishes masks of one shape. Return one mask for each pass, in the order of "
        "the passes, or masks of different shapes."
    )


def _refuse_transformers_noise(target: EmbeddingTarget) -> None:
    for part in target.module.modules():
        if any(getattr(hook, "__name__", "") == "neftune_post_forward_hook" for hook in part._forward_hooks.values()):
            raise DuplicateNoiseError(
                f"{target.name} has the NEFTune hook of transformers already: the noise of both would add up. Leave "
                "neftune_noise_alpha of transformers or TRL unset."
            )


def _forget_compiled_code() -> None:
    """Compiled code does not notice a hook that its module gets later: it would run without noise, silently."""
    if "torch._dynamo" in sys.modules:
        from torch._dynamo.utils import counters

        if counters["stats"]["unique_graphs"]:
            torch._dynamo.reset()
