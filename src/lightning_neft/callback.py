"""`NEFTune`, the Lightning callback that adds noise to a model's token embeddings while it trains."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from lightning_neft.common.trainer import data_parallel_rank, is_logging_step
from lightning_neft.errors import ConfigError, DuplicateNoiseError, LengthsError, NoNoiseError
from lightning_neft.noise.antithetic import double_rows
from lightning_neft.noise.embedding import Target
from lightning_neft.noise.functional import Distribution
from lightning_neft.noise.injector import EmbeddingNoise, Scale
from lightning_neft.noise.lengths import BatchToMask, Length, Scope
from lightning_neft.noise.options import check_choice
from lightning_neft.noise.schedule import AlphaSchedule, ScheduleName
from lightning_neft.noise.strength import Strength

__all__ = ["NEFTune", "Required", "special_ids"]

Required = Literal["always", "first", "epoch"]

# Above this share of elements that rounding leaves unchanged, most of the noise is lost.
_UNCHANGED_LIMIT = 0.5
_FINDERS = (LearningRateFinder, BatchSizeFinder)


class NEFTune(pl.Callback):
    """Noisy-embedding fine-tuning: X' = X + alpha / sqrt(L d) * eps, eps ~ Uniform(-1, 1), in training batches only.

    Formula: Jain et al., "NEFTune: Noisy Embeddings Improve Instruction Finetuning", arXiv 2310.05914, Algorithm 1.
    L is the true length of each sequence (of each document in a packed row); padding gets no noise. The noise is a pure
    function of (seed, data-parallel rank, batches completed since the start of training, forward pass within it): a
    resumed run continues the noise of the unbroken one, and no global random state is read or moved.

    Logs `neft/alpha`, `neft/noise_rms`, `neft/embedding_rms`, `neft/noise_to_signal` and `neft/unchanged` (share of
    elements that rounding left unchanged) at the trainer's logging steps.

    Args:
        alpha: Strength: the paper's values are 5, 10 and 15. 0 adds nothing.
        distribution: `uniform` (the paper), `gaussian` (of the uniform's variance), `gaussian_unit` (variance 1) or
            `rademacher` (signs).
        length: L: `true`, `padded` (the batch's width and noise on padding too, as in transformers and TRL), or a fixed
            number of tokens.
        scope: Tokens that get noise: `all`, `prompt` (labels of -100) or `response` (the others). In an
            encoder-decoder the prompt is what the encoder reads and the response what the decoder reads.
        exclude: Token ids that get no noise though they count in L, such as `tokenizer.all_special_ids`; or `special`
            for the special and added tokens of the LightningModule's `tokenizer`, an attribute or a method.
        scale: `paper`, or `relative`: alpha / sqrt(L d) * (norm / reference_norm), norm being the RMS of the L2 norms
            of the batch's embedded tokens, so that noise-to-signal is alpha / sqrt(3 L) / reference_norm on any model.
        reference_norm: With `relative`, the token norm of the model that alpha is meant for, as `lightning_neft doctor`
            measures it.
        antithetic: Whether each sample is in its batch twice, with a noise and with its negative (SymNoise, arXiv
            2312.01523, with `distribution="rademacher"`). A step then takes about twice the time and twice the memory
            for activations. The batch is a dict with `input_ids`, or the LightningModule has a method
            `double_rows(batch)` that doubles it in place.
        target: The module(s) that get noise: a dotted name below the LightningModule, a module, a sequence of these, or
            a callable from the LightningModule to them. None detects the token embedding.
        schedule: Alpha over the run: `constant`, `linear` or `cosine` (down to 0), or a callable from progress in
            [0, 1] to a factor.
        warmup: Share of the run over which alpha rises from 0.
        seed: Seed of the noise; None uses the seed of `seed_everything`, or 0 without one.
        batch_to_mask: Function from a batch to its attention mask (B, L), for batches whose fields are not recognised;
            None for the others. For several forward passes it returns a list of masks: a pass gets the mask of its
            shape, and masks of one shape belong to the passes in their order, one for each pass.
        required: Training batches in which noise must be applied: `always` all; `first` the first of the run; `epoch`
            one in each epoch that the fit sees whole, and one in the fit. The last two are for a module that trains
            another part in some batches (the discriminator of a GAN, another task).

    Raises:
        ConfigError: An argument has a value that it cannot have.
        EmbeddingNotFoundError: At the start of fit: no token embedding, or none of the target's name.
        AmbiguousEmbeddingError: At the start of fit: several candidates and no target.
        DuplicateNoiseError: At the start of fit: a second NEFTune callback, or the hook of transformers.
        NoNoiseError: At the end of a training batch, or epoch, without noise.
        LengthsError: At a batch whose lengths do not fit what the embedding is called with.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[NEFTune(alpha=5)], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(
        self,
        alpha: float = 5.0,
        *,
        distribution: Distribution = "uniform",
        length: Length = "true",
        scope: Scope = "all",
        exclude: Sequence[int] | Literal["special"] | None = None,
        scale: Scale = "paper",
        reference_norm: float = 1.0,
        antithetic: bool = False,
        target: Target | None = None,
        schedule: ScheduleName | Callable[[float], float] = "constant",
        warmup: float = 0.0,
        seed: int | None = None,
        batch_to_mask: BatchToMask | None = None,
        required: Required = "always",
    ) -> None:
        self.noise = EmbeddingNoise(
            alpha,
            distribution=distribution,
            length=length,
            scope=scope,
            exclude=() if exclude is None or exclude == "special" else exclude,
            scale=scale,
            reference_norm=reference_norm,
            antithetic=antithetic,
            target=target,
            seed=0 if seed is None else seed,
            batch_to_mask=batch_to_mask,
        )
        self.excludes_special = exclude == "special"
        self.required = check_choice("required", required, Required)
        self.noise.way_out = (
            "If some batches train another part of the module: required='first', or required='epoch' for one in each."
        )
        self.schedule = AlphaSchedule(schedule, warmup)
        self.seed = None if seed is None else self.noise.seed
        self.is_of_module = False
        """Whether a module with NEFTuneMixin has made it."""
        self._alpha_now = self.noise.alpha
        self._is_first_batch = True
        self._is_logging_step = False
        self._saw_first_of_epoch = False
        self._epoch_has_noise = False
        self._lack: str | None = None
        self._has_warned = False
        self._total_steps = math.inf
        self._ratio_sum, self._ratio_count = 0.0, 0

    @property
    def alpha(self) -> float:
        """Alpha before the schedule."""
        return self.noise.alpha

    @property
    def mean_noise_to_signal(self) -> tuple[float, int] | None:
        """Mean of the `neft/noise_to_signal` that this rank logged in the last fit, and their number; None without."""
        return (self._ratio_sum / self._ratio_count, self._ratio_count) if self._ratio_count else None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.is_of_module and getattr(pl_module, "_neftune", None) is not self:
            # The Trainer keeps the callbacks of the module that it had before. A new list: Lightning reads the old one.
            trainer.callbacks = [callback for callback in _callbacks(trainer) if callback is not self]  # type: ignore[attr-defined]
            return
        if sum(isinstance(callback, NEFTune) for callback in _callbacks(trainer)) > 1:
            raise DuplicateNoiseError(
                "The Trainer has more than one NEFTune callback, and their noise would add up. Keep one: a callback in "
                "the Trainer's list, the neftune section of a config, or NEFTuneMixin."
            )
        finders = [type(each).__name__ for each in _callbacks(trainer) if isinstance(each, _FINDERS)]
        if finders and stage == "fit" and self.alpha > 0:
            rank_zero_warn(
                f"NEFTune: {finders[0]} searches without the Trainer's callbacks, hence without noise; the fit that "
                "follows has noise."
            )

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not in `setup`: a model built in configure_model does not exist there yet.
        self.noise.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed
        self._is_first_batch = True
        self._saw_first_of_epoch, self._epoch_has_noise, self._lack = False, False, None
        self._ratio_sum, self._ratio_count = 0.0, 0
        if self.alpha > 0:
            if self.excludes_special:
                self.noise.exclude = special_ids(pl_module)
            self.noise.attach(pl_module)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.schedule.is_constant:
            return
        self._total_steps = trainer.estimated_stepping_batches
        if not 0 < self._total_steps < math.inf:
            raise ConfigError(
                f"schedule={self.schedule.shape!r} with warmup={self.schedule.warmup} needs a known number of steps: "
                "set max_steps, or max_epochs with a data loader that has a length."
            )

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._saw_first_of_epoch |= batch_idx == 0
        self._alpha_now = self.alpha
        if not self.schedule.is_constant:
            self._alpha_now *= self.schedule(self._progress(trainer, pl_module))
        self._is_logging_step = is_logging_step(trainer)
        if self._alpha_now == 0:
            return
        if batch is None and self.noise.reads_batch:
            # With training_step(dataloader_iter) Lightning passes None first, later the previous batch.
            raise LengthsError(
                "training_step(dataloader_iter) fetches its batch itself, so the lengths are unknown: use "
                "training_step(batch), or length='padded'."
            )
        if self.noise.antithetic:
            getattr(pl_module, "double_rows", double_rows)(batch)
        self.noise.arm(
            batch,
            # Completed batches, not started ones: a resumed run repeats the batch that an exception interrupted.
            trainer.fit_loop.epoch_loop.batch_progress.total.completed,
            rank=data_parallel_rank(trainer),
            alpha=self._alpha_now,
            measure=self._is_first_batch or self._is_logging_step,
        )

    def _progress(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
        """Return the completed share of the run."""
        if pl_module.automatic_optimization:
            return trainer.global_step / self._total_steps
        # Lightning counts the steps of each optimiser then, of which a batch may make several or none.
        shares = [0.0]
        if trainer.max_steps > 0:
            shares.append(trainer.global_step / trainer.max_steps)
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            batches = trainer.fit_loop.epoch_loop.batch_progress.total.completed
            shares.append(batches / (trainer.num_training_batches * trainer.max_epochs))
        return max(shares)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # In automatic optimisation a training_step that returns None skips the batch, maybe before any forward pass.
        skipped = pl_module.automatic_optimization and not outputs
        # The first batch of a resumed fit is any batch of the run.
        is_first_of_run = self._is_first_batch and trainer.ckpt_path is None
        required = self.required == "always" or (self.required == "first" and is_first_of_run)
        if self.required == "epoch" and not skipped:
            lack = self.noise.lack
            self._epoch_has_noise |= lack is None
            self._lack = lack or self._lack
        strength = self.noise.disarm(verify=not skipped, required=required)
        if strength is None:
            if self._alpha_now == 0 and self._is_logging_step:
                pl_module.log("neft/alpha", 0.0, on_step=True, on_epoch=False)
            return
        if self._is_first_batch:
            self._is_first_batch = False
            self._announce(strength)
        self._warn_of_rounding(strength)
        if self._is_logging_step:
            # Logging the values waits for the device anyway.
            self.noise.check()
            self._log(pl_module, strength)

    def _announce(self, strength: Strength) -> None:
        names = ", ".join(target.name for target in self.noise.targets)
        rank_zero_info(
            f"NEFTune: noise on {names}; lengths from {self.noise.found_in}; noise-to-signal "
            f"{float(strength.noise_to_signal):.3g} in the first batch."
        )

    def _log(self, pl_module: pl.LightningModule, strength: Strength) -> None:
        # Numbers, not tensors: a progress bar reads its values after every step, and would wait for the device.
        values = {
            "neft/alpha": self._alpha_now,
            "neft/noise_rms": float(strength.noise_rms),
            "neft/embedding_rms": float(strength.embedding_rms),
            "neft/unchanged": float(strength.unchanged),
        }
        pl_module.log_dict(values, on_step=True, on_epoch=False)
        ratio = float(strength.noise_to_signal)
        self._ratio_sum, self._ratio_count = self._ratio_sum + ratio, self._ratio_count + 1
        pl_module.log("neft/noise_to_signal", ratio, prog_bar=True, on_step=True, on_epoch=False)

    def _warn_of_rounding(self, strength: Strength) -> None:
        unchanged = float(strength.unchanged)
        if unchanged > _UNCHANGED_LIMIT and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"NEFTune: rounding to the embedding's dtype leaves {unchanged:.0%} of its elements unchanged, so most "
                "of the noise is lost. Keep the embedding in float32 (precision='bf16-mixed'), or raise alpha."
            )

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A module whose own on_train_batch_start returns -1 ends the epoch without on_train_batch_end.
        self.noise.disarm(verify=False)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.noise.disarm(verify=False)
        self.noise.check()
        lack = None if self._epoch_has_noise else self._lack
        # The batches with noise may be in the other part of an epoch that a resume or max_steps has cut.
        has_none_so_far = self._is_first_batch and trainer.ckpt_path is None
        is_whole = self._saw_first_of_epoch and trainer.is_last_batch
        self._saw_first_of_epoch, self._epoch_has_noise, self._lack = False, False, None
        if lack is not None and (is_whole or has_none_so_far):
            raise NoNoiseError(lack)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.noise.detach()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        # Lightning does not call teardown after an exception.
        self.noise.detach(verify=False)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.noise.detach(verify=False)


def special_ids(pl_module: pl.LightningModule) -> tuple[int, ...]:
    """Return the ids of the control tokens: the special ones, and those added to the learned vocabulary.

    Args:
        pl_module: Has the tokenizer as its attribute or method `tokenizer`.

    Raises:
        ConfigError: It has none.
    """
    tokenizer: Any = getattr(pl_module, "tokenizer", None)
    if callable(tokenizer) and not hasattr(tokenizer, "all_special_ids"):
        tokenizer = tokenizer()
    if not hasattr(tokenizer, "all_special_ids"):
        raise ConfigError(
            f"exclude='special' needs the tokenizer, and {type(pl_module).__name__}.tokenizer is none: pass the ids, "
            "for example exclude=tokenizer.all_special_ids."
        )
    # Markers of tool calls and of reasoning are often added tokens that are not special.
    return tuple(sorted({*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", ())}))


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]
