"""`FineTuner`: losses, metrics, optimiser and schedule that all fine-tuned models share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lightning_neft.common.trainer import is_logging_step, replicas
from lightning_neft.data.resumed_epoch import leave_finished_epoch, reopen_broken_off_epoch
from lightning_neft.errors import ConfigError
from lightning_neft.models.batches import double_rows, model_inputs, sources_of_places
from lightning_neft.models.consistency import antithetic_noise, check_pairs, pair_divergence
from lightning_neft.models.execution import evaluating, fast_attention
from lightning_neft.models.loss import (
    Predictions,
    TokenMean,
    loss_by_source,
    mean_loss,
    share_of_step,
    summed_loss,
    token_scores,
)
from lightning_neft.models.optimizer import build_optimizer, check_installed, replaces_schedule, set_mode
from lightning_neft.models.pretrained import PretrainedModule
from lightning_neft.models.schedule import schedule_config

__all__ = ["FineTuner"]


class FineTuner(PretrainedModule, ABC):
    """Fine-tunes a model of transformers; subclasses say which one, and what it predicts of a batch.

    The defaults are those of the paper: AdamW without weight decay, cosine schedule after 3 % of warm-up. The training
    loss is the mean over the trained tokens of the micro-batch; where the batch has its `step_share`, its part of the
    mean over those of the whole optimiser step, over micro-batches and ranks. The logged `train/loss` is always the
    former, of this rank, at the Trainer's logging steps. Losses on held-out data are means over all of them, and with
    several sources over those of each too (`val/loss/NAME`).

    See `PretrainedModule` for the options.
    """

    loss_before_fit: float | None = None
    """Held-out loss of the base, or of the checkpoint of a resumed fit, from its sanity check; None where that was
    skipped or cut short."""
    last_validation: tuple[int, float] | None = None
    """Optimiser step and held-out loss of the last validation."""
    last_training_loss: tuple[int, Tensor] | None = None
    """Optimiser step and `train/loss` of the last logging step, on the CPU."""
    wants_clean_loss = False
    """Set by the `CleanLoss` callback for one training step, which then sets `clean_loss`."""
    _has_pairs = False
    """Whether the batch of this step has been doubled for antithetic noise."""
    clean_loss: Tensor | None = None
    """Loss without noise of the last batch for which it was wanted."""

    @abstractmethod
    def predictions(self, batch: dict[str, Any]) -> Predictions:
        """Run the model on a batch and return what it says where there is a target."""

    @override
    def on_model_built(self) -> None:
        self.held_out_loss = TokenMean()
        datamodule = None if self._trainer is None else self.trainer.datamodule  # type: ignore[attr-defined]
        self._source_names: list[str] = list(getattr(datamodule, "held_out_names", ()))
        # One that stays empty would stand in the summary of each model.
        self.source_losses = TokenMean((len(self._source_names),)) if self._source_names else None

    @override
    def forward(self, batch: dict[str, Any]) -> Any:
        """Run the model on a batch and return its output, logits without a loss."""
        return self.model(**model_inputs(batch))

    @override
    def setup(self, stage: str) -> None:
        if stage != "fit":
            return
        check_installed(self.optimizer)
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        if self.model is None and any(isinstance(one, StochasticWeightAveraging) for one in callbacks):
            raise ConfigError(
                "StochasticWeightAveraging copies the module before its model is built, and would average nothing; "
                "use EMAWeightAveraging, or WeightAveraging"
            )

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        reopen_broken_off_epoch(checkpoint)

    @override
    def on_train_start(self) -> None:
        leave_finished_epoch(self.trainer)
        check_pairs(self.consistency, antithetic_noise(self.trainer) is not None)

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if self.wants_clean_loss:
            # Before the noisy pass, so that it does not add to the memory that this one holds.
            self.wants_clean_loss, self.clean_loss = False, self.loss_without_noise(batch)
        predictions = self._predictions(batch)
        loss = mean_loss(predictions)
        has_pairs, self._has_pairs = self._has_pairs, False
        shown: dict[str, Tensor] = {}
        if is_logging_step(self.trainer):
            # On the CPU: Lightning asks after each step for the value of what the progress bar shows, and would wait
            # for the device each time.
            shown["train/loss"] = loss.detach().cpu()
            self.last_training_loss = (self.trainer.global_step + 1, shown["train/loss"])
        # Without noise, as in a warm-up's first step, there are no pairs.
        if self.consistency and has_pairs:
            divergence = pair_divergence(predictions)
            loss = loss + self.consistency * divergence
            if shown:
                shown["train/divergence"] = divergence.detach().cpu()
        for name, value in shown.items():
            self.log(name, value, prog_bar=name == "train/loss", batch_size=len(batch["input_ids"]))
        if "step_share" in batch:
            accumulate = self.trainer.accumulate_grad_batches
            loss = loss * share_of_step(batch["step_share"], accumulate, replicas(self.trainer))
        return loss if predictions.auxiliary is None else loss + predictions.auxiliary

    @torch.no_grad()
    def loss_without_noise(self, batch: dict[str, Any]) -> Tensor:
        """Return the mean loss of a batch without noise and dropout; no random state is read or moved."""
        with evaluating(self.model):
            return mean_loss(self._predictions(batch))

    def double_rows(self, batch: dict[str, Any]) -> None:
        """Double a batch in place, for antithetic noise."""
        double_rows(batch)
        self._has_pairs = True

    @override
    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._add_to_metrics(batch)

    @override
    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._add_to_metrics(batch)

    def _add_to_metrics(self, batch: dict[str, Any]) -> None:
        predictions = self._predictions(batch)
        losses = self.add_to_metrics(predictions)
        if self.source_losses is None:
            return
        if (sources := sources_of_places(batch, len(predictions.targets))) is not None:
            self.source_losses.update(*loss_by_source(losses, predictions, sources, len(self._source_names)))

    def add_to_metrics(self, predictions: Predictions) -> Tensor:
        """Take a held-out batch into the metrics; nothing waits for the device.

        Returns:
            (n,), the loss at each place; see `token_scores`.
        """
        losses = token_scores(predictions)[0]
        self.held_out_loss.update(*summed_loss(predictions))
        return losses

    def computed_metrics(self) -> dict[str, Tensor]:
        """Return the metrics over the held-out batches of all ranks, by name, and start anew."""
        loss = self.held_out_loss.compute()
        self.held_out_loss.reset()
        if self.source_losses is None:
            return {"loss": loss}
        # A source may have no sample under trainer.limit_val_batches.
        named = zip(self._source_names, self.source_losses.compute(), strict=True)
        self.source_losses.reset()
        return {"loss": loss, **{f"loss/{name}": value for name, value in named if not value.isnan()}}

    @override
    def on_validation_epoch_end(self) -> None:
        loss = self._log_metrics("val")
        if not self.trainer.sanity_checking:
            self.last_validation = (self.trainer.global_step, loss)
        elif self.trainer.num_sanity_val_steps == float("inf"):
            self.loss_before_fit = loss

    @override
    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    @override
    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        set_mode(self.trainer.optimizers, "train")

    @override
    def on_validation_model_eval(self) -> None:
        super().on_validation_model_eval()
        # Within an optimiser step, where validations by time may be.
        set_mode(self.trainer.optimizers, "eval")

    @override
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # After each step and not only before a checkpoint: the way to these weights and back rounds them, and a resumed
        # run has to round as often as the unbroken one.
        set_mode(self.trainer.optimizers, "eval")
        # Lightning would keep the gradients over the next forward pass, which is when the activations need the memory.
        self.optimizers(use_pl_optimizer=False).zero_grad()  # type: ignore[union-attr]

    def _predictions(self, batch: dict[str, Any]) -> Predictions:
        with nullcontext() if self.is_compiled else fast_attention(self.model):
            return self.predictions(batch)

    def _log_metrics(self, stage: str) -> float:
        metrics = self.computed_metrics()
        for name, value in metrics.items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "loss")
        return metrics["loss"].item()

    def make_optimizer(self) -> Optimizer:
        """Return a new optimiser of the trained parameters.

        Raises:
            ConfigError: If it cannot be made.
        """
        ratio = None if self.lora is None else self.lora.loraplus_lr_ratio
        return build_optimizer(self.model, self.optimizer, self.learning_rate, self.weight_decay, ratio)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        trainer = self.trainer
        has_end = trainer.max_epochs != -1 or trainer.max_steps != -1
        if isinstance(self.lr_scheduler, str) and self.lr_scheduler != "constant" and not has_end:
            raise ConfigError(
                f"the schedule {self.lr_scheduler} needs to know its end: set trainer.max_epochs or trainer.max_steps"
            )
        optimizer = self.make_optimizer()
        if replaces_schedule(optimizer) and self.lr_scheduler in ("cosine", "linear"):
            raise ConfigError(
                f"{type(optimizer).__name__} averages weights in place of a schedule; give --model.lr_scheduler "
                "constant_with_warmup, or constant"
            )
        schedule = schedule_config(
            self.lr_scheduler, optimizer, self.warmup_ratio, lambda: trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}  # type: ignore[return-value]
