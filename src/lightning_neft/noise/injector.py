"""`EmbeddingNoise`: attaches to a module, and adds noise to its token embedding between `arm` and `disarm`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from lightning_neft.errors import ConfigError, NEFTError, NoNoiseError
from lightning_neft.noise.contents import Contents
from lightning_neft.noise.diagnosis import explain_missing_noise, other_count, refuse_transformers_noise
from lightning_neft.noise.documents import PaddingId
from lightning_neft.noise.embedding import (
    EmbeddingTarget,
    Target,
    check_target,
    find_embeddings,
    sequence_first_module,
)
from lightning_neft.noise.functional import Distribution, mix_seed
from lightning_neft.noise.hook import NoiseHook
from lightning_neft.noise.kinds import BatchKinds
from lightning_neft.noise.late import LateErrors, flags_of
from lightning_neft.noise.lengths import BatchToMask, Length, Scope, TokenRows, find_token_rows
from lightning_neft.noise.matching import Passes, rows_of_side
from lightning_neft.noise.options import (
    check_alpha,
    check_batch_to_mask,
    check_choice,
    check_exclude,
    check_integer,
    check_length,
    check_reference_norm,
)
from lightning_neft.noise.strength import Strength
from lightning_neft.noise.undescribed import UndescribedBatch

__all__ = ["EmbeddingNoise", "Scale"]

Scale = Literal["paper", "relative"]


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
        exclude: Token ids that get no noise, such as `tokenizer.all_special_ids`. They still count in L.
        scale: `paper` as above; `relative` takes alpha in units of the embedding's own size, see below.
        reference_norm: With `relative`, the token norm of the model that alpha is meant for.
        antithetic: Whether the second half of a batch gets the noise of the first half with the opposite sign; double
            the batch first, see `lightning_neft.noise.double_rows`.
        target: The module(s) that get noise, see `find_embeddings`; None to detect the token embedding.
        seed: Seed of the noise, a pure function of (seed, rank, step, call in the batch).
        batch_to_mask: Function from a batch to its mask (B, L), for batches whose fields are not recognised, or to a
            list of masks, one for each forward pass. Masks of one shape belong to the passes in their order.

    Raises:
        ConfigError: An argument has a value that it cannot have.

    The relative scale is alpha / sqrt(L d) * (norm / reference_norm), norm being the root mean square, over the batch's
    noised tokens, of the L2 norm of what the embedding returns for a token. The noise-to-signal of a sequence of L
    tokens is then alpha / sqrt(3 L) / reference_norm (uniform noise) on any model. With the token norm of another model
    as reference_norm (`lightning_neft doctor` measures it), the noise-to-signal is that of the paper's scale there.

    Your own loop needs two more lines, the first and the `with`:

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
        exclude: Sequence[int] = (),
        scale: Scale = "paper",
        reference_norm: float = 1.0,
        antithetic: bool = False,
        target: Target | None = None,
        seed: int = 0,
        batch_to_mask: BatchToMask | None = None,
    ) -> None:
        self.alpha = check_alpha(alpha)
        self.distribution = check_choice("distribution", distribution, Distribution)
        self.length = check_length(length)
        self.scope = check_choice("scope", scope, Scope)
        self.exclude = check_exclude(exclude)
        self.scale = check_choice("scale", scale, Scale)
        self.reference_norm = check_reference_norm(reference_norm, is_relative=scale == "relative")
        if not isinstance(antithetic, bool):
            raise ConfigError(f"antithetic={antithetic!r}: use True or False.")
        self.antithetic = antithetic
        check_target(target)
        self.target = target
        self.seed = check_integer("seed", seed)
        self.batch_to_mask = check_batch_to_mask(batch_to_mask)
        self._root: nn.Module | None = None
        self._hooks: list[NoiseHook] = []
        self._padding: PaddingId | None = None
        self._kinds = BatchKinds(self.length, None, has_padding=False)
        self._passes = Passes()
        self._late = LateErrors()
        self._flags: list[tuple[Tensor, NEFTError]] = []
        self.way_out = "If this batch trains another part of the model: armed(..., required=False)."
        """End of the error of a batch without noise."""
        self.found_in = ""
        """The fields of the last armed batch that its lengths were read from, for messages."""

    @property
    def targets(self) -> list[EmbeddingTarget]:
        """Where noise is applied; empty while not attached."""
        return [hook.target for hook in self._hooks]

    @property
    def reads_batch(self) -> bool:
        """Whether the noise depends on the content of the batch; the padded form needs the output's width alone."""
        return self.length != "padded" or self.scope != "all"

    @property
    def lack(self) -> str | None:
        """Why the armed batch has no noise so far, for messages; None if it has, or if nothing is armed."""
        for hook in self._hooks:
            if hook.is_armed and not hook.has_landed and self._root is not None:
                return f"{explain_missing_noise(self._root, hook)} {self.way_out}"
        return None

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
            refuse_transformers_noise(target)
        paddings = {target.padding for target in targets}
        sequence_first = sequence_first_module(module)
        self._root = module
        self._padding = paddings.pop() if len(paddings) == 1 else None
        self._kinds = BatchKinds(self.length, sequence_first, has_padding=self._padding is not None)
        self._passes = Passes()
        norm = self.reference_norm if self.scale == "relative" else None
        self._hooks = [
            NoiseHook(target, self.distribution, norm, self.antithetic, sequence_first is not None, self.exclude)
            for target in targets
        ]
        for hook in self._hooks:
            hook.register()
        return self

    def detach(self, *, verify: bool = True) -> None:
        """Remove the hooks; the module is as it was. Harmless if not attached.

        Args:
            verify: Whether to raise the errors of earlier batches on a device that are known only now.

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
        """Raise the errors of earlier batches on a device; waits for the device.

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
            batch: The input of the model, on its device: the lengths are read from it.
            step: Number of this (micro-)batch since the start of training, also after a resume.
            rank: Data-parallel rank: ranks draw different noise.
            alpha: Alpha of this batch, if it differs from the constructor's.
            measure: Whether `disarm` returns the strength.

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
            refuse_transformers_noise(hook.target)
        if alpha == 0:
            self.disarm(verify=False)
            for hook in self._hooks:
                hook.forget()
            return
        contents = Contents(batch)
        rows = self.rows_of(contents)
        if self.reads_batch:
            self._kinds.check(contents, rows)
        names_ids = bool(rows)
        if not any(row.is_described for row in rows):
            # The ids of each call show its length.
            rows = []
        self.found_in = ", ".join(dict.fromkeys([row.source for row in rows])) or "the width of the embedding's output"
        self._passes = Passes(are_in_order=self._passes.are_in_order)
        undescribed = None
        for index, hook in enumerate(self._hooks):
            own = rows_of_side(rows, hook.target.side)
            if not own and undescribed is None:
                ids = self._kinds.ids(contents) if self.reads_batch else None
                undescribed = UndescribedBatch(self.length, self.scope == "all", names_ids, ids)
            seed = mix_seed(self.seed, rank, step, index)
            hook.arm(own, None if own else undescribed, alpha, seed, measure, self._passes)
        self._flags = flags_of(rows, self.found_in, self.scope, step)

    def rows_of(self, batch: Any) -> list[TokenRows]:
        """The rows of tokens of a batch that `arm` uses; empty where the content of the batch does not matter.

        Args:
            batch: The batch, or its `Contents`.

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
            undescribed=True,
        )

    def disarm(self, *, verify: bool = True, required: bool = True) -> Strength | None:
        """Switch the noise off.

        Args:
            verify: Whether to raise if something was wrong with the noise of this batch.
            required: Whether this batch has to get noise; False for one that may train another part of the model.

        Returns:
            The strength of the noise if `arm` was called with `measure`, else None.

        Raises:
            NoNoiseError: The batch ended without noise; says why and what to do.
            LengthsError: The embedding was called with ids that are not those of the batch.
        """
        armed = [hook for hook in self._hooks if hook.is_armed]
        lack = self.lack if verify and required else None
        has_landed = any(hook.has_landed for hook in armed)
        flags, self._flags = self._flags, []
        flags += [doubt for hook in armed if (doubt := hook.doubt) is not None]
        strengths = [hook.disarm() for hook in armed]
        if lack is not None:
            raise NoNoiseError(lack)
        if verify and has_landed:
            self._kinds.settle()
            if self._passes.by_order and self._passes.by_order != self._passes.count:
                raise other_count(self._passes)
            for flag, error in flags:
                self._late.add(flag, error)
            if self._kinds.is_new:
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
        # A copy (an averaged model, a spawned process) is attached to nothing and armed for nothing.
        kinds = BatchKinds(self.length, None, has_padding=False)
        return {**self.__dict__, "_root": None, "_hooks": [], "_late": LateErrors(), "_flags": [], "_kinds": kinds}
