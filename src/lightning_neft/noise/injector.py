"""`EmbeddingNoise`: attaches to a module, and adds noise to its token embedding between `arm` and `disarm`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeGuard, get_args

import torch
from torch import nn

from lightning_neft.errors import ConfigError, DuplicateNoiseError, LengthsError, NEFTError, NoNoiseError
from lightning_neft.noise.diagnosis import explain_missing_noise
from lightning_neft.noise.embedding import EmbeddingTarget, Target, find_embeddings, sequence_first_module
from lightning_neft.noise.fields import field_groups
from lightning_neft.noise.functional import Distribution, mix_seed
from lightning_neft.noise.hook import NoiseHook, Strength
from lightning_neft.noise.late import LateErrors
from lightning_neft.noise.lengths import GIVEN, BatchToMask, Length, Scope, TokenRows, find_token_rows
from lightning_neft.noise.unread import check_unread

__all__ = ["EmbeddingNoise", "Scale", "check_alpha"]

Scale = Literal["paper", "relative"]
_Flag = tuple[torch.Tensor, NEFTError]

# The scale is computed in float32, where more is infinite.
_LARGEST = torch.finfo(torch.float32).max


def check_alpha(alpha: object) -> float:
    """Return alpha as a float, or raise ConfigError if it is not a finite number of at least 0."""
    if not _is_finite(alpha) or not 0 <= alpha <= _LARGEST:
        raise ConfigError(f"alpha={alpha!r}: use a finite number >= 0; the paper's values are 5, 10 and 15, 0 is off.")
    return float(alpha)


def _is_finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class EmbeddingNoise:
    """NEFTune's noise for any training loop: attached to a model, armed for one batch at a time.

    Args:
        alpha: Strength; 0 adds nothing.
        distribution: `uniform` (the paper), `gaussian` (of the uniform's variance), `gaussian_unit` (variance 1) or
            `rademacher` (signs).
        length: L of alpha / sqrt(L d): `true` (tokens of the sequence, or of the document in a packed row), `padded`
            (the width of the batch and noise on padding too, as in transformers), or a fixed number of tokens.
        scope: Tokens that get noise: `all`, `prompt` or `response` (told apart by labels of -100). In an
            encoder-decoder the prompt is what the encoder reads and the response what the decoder reads.
        scale: `paper` as above; `relative` takes alpha in units of the embedding's own size, see below.
        reference_norm: With `relative`, the token norm of the model that alpha is meant for.
        antithetic: Whether the second half of a batch gets the noise of the first half with the other sign; the batch
            has to be doubled for it, see `lightning_neft.noise.antithetic.double_rows`.
        target: The module(s) to put noise on, see `find_embeddings`; None to find the token embedding.
        seed: Start of the noise; it is a pure function of (seed, rank, step, call in the batch).
        batch_to_mask: From a batch to its mask or masks (B, L), for batches that are not understood otherwise.

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
        if length not in ("true", "padded") and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            raise ConfigError(f"length={length!r}: use 'true', 'padded' or a number of tokens >= 1.")
        if scope not in get_args(Scope):
            raise ConfigError(f"scope={scope!r}: use one of {', '.join(get_args(Scope))}.")
        if scale not in get_args(Scale):
            raise ConfigError(f"scale={scale!r}: use one of {', '.join(get_args(Scale))}.")
        if not _is_finite(reference_norm) or reference_norm <= 0:
            raise ConfigError(f"reference_norm={reference_norm!r}: use a finite number > 0.")
        if scale == "paper" and reference_norm != 1:
            raise ConfigError(f"reference_norm={reference_norm!r} needs scale='relative': the paper's scale has none.")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ConfigError(f"seed={seed!r}: use an integer.")
        self.distribution: Distribution = distribution
        self.length: Length = length
        self.scope: Scope = scope
        self.scale: Scale = scale
        self.reference_norm = float(reference_norm)
        self.antithetic = bool(antithetic)
        self.target = target
        self.seed = seed
        self.batch_to_mask = batch_to_mask
        self._root: nn.Module | None = None
        self._hooks: list[NoiseHook] = []
        self._sequence_first: str | None = None
        self._is_first_batch = True
        self._late = LateErrors()
        self._flags: list[_Flag] = []
        self.way_out = "If this batch trains another part: armed(..., required=False)."
        """What the error of a batch without noise ends with."""
        self.found_in = ""
        """The fields of the last armed batch that its lengths were read from, for people."""

    @property
    def targets(self) -> list[EmbeddingTarget]:
        """Where the noise lands; empty while not attached."""
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
        self._is_first_batch = True
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
        """
        if not self._hooks:
            raise NoNoiseError("EmbeddingNoise is not attached to a model: call attach(model) first.")
        alpha = self.alpha if alpha is None else check_alpha(alpha)
        for hook in self._hooks:
            _refuse_transformers_noise(hook.target)
        if alpha == 0:
            self.disarm(verify=False)
            for hook in self._hooks:
                hook.forget()
            return
        rows = self._rows_of(batch)
        self.found_in = ", ".join(dict.fromkeys(row.source for row in rows)) or "the width of the embedding's output"
        names_ids = not rows and any("ids" in group.fields for group in field_groups(batch, seq2seq=False))
        for index, hook in enumerate(self._hooks):
            hook.arm(rows, alpha, self.length, mix_seed(self.seed, rank, step, index), measure, names_ids)
        self._flags = self._flags_of(rows, step)

    def _rows_of(self, batch: Any) -> list[TokenRows]:
        rows: list[TokenRows] = []
        if self.reads_batch:
            rows = find_token_rows(
                batch,
                length=self.length,
                scope=self.scope,
                batch_to_mask=self.batch_to_mask,
                seq2seq=any(hook.target.is_seq2seq for hook in self._hooks),
                slots=[slot for hook in self._hooks for slot in hook.target.slots],
            )
            if self._is_first_batch and not rows:
                check_unread(batch)
        is_told = isinstance(self.length, int) or (rows and all(row.source == GIVEN for row in rows))
        if self._sequence_first and not is_told:
            raise LengthsError(
                f"{self._sequence_first} has batch_first=False, so that the tokens may be (B, L) or (L, B): give the "
                "mask, always (B, L), with batch_to_mask, or a number of tokens, length=512."
            )
        return rows

    def _flags_of(self, rows: list[TokenRows], step: int) -> list[_Flag]:
        """What is known of a batch only on its device: bools, each with its error."""
        flags: list[_Flag] = []
        if rows:
            device = rows[0].weight.device
            strongest = torch.stack([row.weight.amax().to(device) for row in rows]).amax()
            flags.append((strongest == 0, _no_token(self.found_in, step, self.scope)))
        flags += [(row.doubt, _pair_or_padding(row.source, step)) for row in rows if row.doubt is not None]
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
        flags += [(hook.doubt, _other_ids(hook.target.name)) for hook in armed if hook.doubt is not None]
        strengths = [hook.disarm() for hook in self._hooks]
        if lack is not None:
            raise NoNoiseError(lack)
        if verify and has_landed:
            for flag, error in flags:
                self._late.add(flag, error)
            if self._is_first_batch:
                self._late.settle()
            self._late.end_batch()
            self._is_first_batch = False
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
        return {**self.__dict__, "_root": None, "_hooks": [], "_late": LateErrors(), "_flags": []}


def _no_token(source: str, step: int, scope: str) -> NoNoiseError:
    return NoNoiseError(
        f"NEFTune added no noise in training batch {step}: no token of {source} is to get any. Check that the mask is "
        f"1 on tokens (and labels, with scope={scope!r}); for one of 0 and -inf give batch_to_mask=lambda batch: "
        "batch['attention_mask'] == 0."
    )


def _pair_or_padding(source: str, step: int) -> LengthsError:
    return LengthsError(
        f"{source} in training batch {step} holds only 0 and 1 and begins with 0: the two sentences of a pair, or "
        "padding and a document? Add attention_mask, or give the mask (B, L) with batch_to_mask."
    )


def _other_ids(name: str) -> LengthsError:
    return LengthsError(
        f"{name} was called with ids that are not those of the batch, nor a part of them: their lengths are unknown. "
        "Give the masks of the passes with batch_to_mask, or use length='padded' or a number."
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
