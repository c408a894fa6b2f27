"""`CausalLM`: supervised fine-tuning of a causal language model, full or with LoRA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric
from typing_extensions import override

from lightning_neft.data.encoding import IGNORED
from lightning_neft.data.tokenizer import load_tokenizer
from lightning_neft.errors import ConfigError
from lightning_neft.models.base import loading, resolve_base
from lightning_neft.models.generation import generate_answers
from lightning_neft.models.lora import LoraOptions, add_lora
from lightning_neft.models.schedule import cosine_with_warmup

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CausalLM", "summed_loss"]


def summed_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy of the labelled tokens in nats, and how many they are.

    Args:
        logits: (batch, length, vocabulary), any float dtype; the loss is taken in float32.
        labels: (batch, length) int64, not shifted, -100 where there is no loss.

    Returns:
        A float32 and an int64 scalar.

    Example:
        >>> loss, count = summed_loss(torch.zeros(1, 3, 8), torch.tensor([[-100, 4, 2]]))
        >>> round(loss.item(), 4), count.item()  # twice log(8)
        (4.1589, 2)
    """
    targets = labels[:, 1:].flatten()
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum")
    return loss, (targets != IGNORED).sum()


class CausalLM(L.LightningModule):
    """Fine-tunes a causal language model of transformers on the labels of the batch.

    The defaults are those of the paper: AdamW without weight decay, cosine schedule after 3 % of warm-up. Batches are
    dicts of int64 tensors of shape (batch, length): `input_ids`, `attention_mask`, and `labels` with -100 on prompt and
    padding. The training loss is the mean over the labelled tokens of the micro-batch; the logged losses on held-out
    data are means over all their tokens.

    The weights are loaded in `configure_model`, in the dtype that the Trainer's precision asks for, from safetensors
    where the base has them. Nothing is kept in the checkpoint but weights: the options come from the command line.

    Args:
        base: Folder or hub id of the base model, or `tiny` for the one that comes with the package.
        lora: Train low-rank adapters only; without it all weights are trained.
        learning_rate: The highest learning rate of the schedule.
        weight_decay: Decay of AdamW, on matrices only: biases and norms are left out.
        warmup_ratio: Share of the optimiser's steps in which the learning rate rises.
        attn_implementation: Attention of transformers, such as sdpa or flash_attention_2; its own choice by default.
        trust_remote_code: Whether code that comes with the base model may run.

    Raises:
        ConfigError: If a number is out of its range.
    """

    def __init__(
        self,
        base: str = "tiny",
        lora: LoraOptions | None = None,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.0,
        warmup_ratio: float = 0.03,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        for name, value, highest in (
            ("learning_rate", learning_rate, math.inf),
            ("weight_decay", weight_decay, math.inf),
            ("warmup_ratio", warmup_ratio, 1.0),
        ):
            if not 0 <= value <= highest:
                allowed = "0 or more" if highest == math.inf else f"between 0 and {highest:g}"
                raise ConfigError(f"model.{name} must be {allowed}, got {value!r}")
        self.base = base
        self.lora = lora
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.attn_implementation = attn_implementation
        self.trust_remote_code = trust_remote_code
        self.model: Any = None
        self.held_out_loss = MeanMetric()
        self.loss_before_fit: float | None = None
        """Held-out loss of the base, from the sanity check of a fit; None where that was skipped or cut short."""
        self.last_validation: tuple[int, float] | None = None
        """Optimiser step and held-out loss of the last validation."""

    @override
    def configure_model(self) -> None:
        if self.model is not None:  # Lightning may call this hook more than once
            return
        from transformers import AutoModelForCausalLM

        with loading("weights", self.base):
            model = AutoModelForCausalLM.from_pretrained(
                resolve_base(self.base),
                # The default would be the checkpoint's: a bf16 one would train in pure bf16 whatever the precision.
                dtype=torch.get_default_dtype(),
                attn_implementation=self.attn_implementation,
                trust_remote_code=self.trust_remote_code,
            )
        if self.lora is not None:
            model = add_lora(model, self.lora)
        # transformers hands out models in eval mode and Lightning keeps that: dropout would stay off in the fit.
        self.model = model.train()

    @override
    def forward(self, batch: dict[str, Tensor]) -> Any:
        """Run the model on a batch; the output carries `loss` where the batch has labels."""
        return self.model(**batch, use_cache=False)

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self(batch).loss
        # Of this rank and micro-batch alone: a sum over the ranks at every step would cost more than it tells.
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["input_ids"]))
        return loss

    @override
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._add_held_out_loss(batch)

    @override
    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._add_held_out_loss(batch)

    @override
    def on_validation_epoch_end(self) -> None:
        loss = self._log_held_out_loss("val")
        if not self.trainer.sanity_checking:
            self.last_validation = (self.trainer.global_step, loss.item())
        elif self.trainer.num_sanity_val_steps == float("inf"):
            self.loss_before_fit = loss.item()

    @override
    def on_test_epoch_end(self) -> None:
        self._log_held_out_loss("test")

    @override
    def predict_step(self, batch: Sequence[str], batch_idx: int) -> list[str]:
        return self.generate(batch, batch_size=len(batch))

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        trainer = self.trainer
        if trainer.max_epochs == -1 and trainer.max_steps == -1:
            raise ConfigError("the cosine schedule needs to know its end: set trainer.max_epochs or trainer.max_steps")
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=self.learning_rate)
        schedule = cosine_with_warmup(optimizer, self.warmup_ratio, lambda: trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the base's tokenizer."""
        return load_tokenizer(self.base, self.trust_remote_code)

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int = 256, batch_size: int = 8) -> list[str]:
        """Return the answer to each prompt: greedy, repetition penalty 1.2. Train and eval modes stay as they are.

        Args:
            prompts: Prompts as the template words them.
            max_new_tokens: The most tokens of an answer.
            batch_size: Prompts in one forward pass.
        """
        self.configure_model()
        return generate_answers(
            self.model, self.tokenizer(), prompts, max_new_tokens=max_new_tokens, batch_size=batch_size
        )

    def _add_held_out_loss(self, batch: dict[str, Tensor]) -> None:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        loss, count = summed_loss(self(inputs).logits, batch["labels"])
        if count > 0:
            self.held_out_loss.update(loss / count, weight=count)

    def _log_held_out_loss(self, stage: str) -> Tensor:
        loss = self.held_out_loss.compute()  # over all ranks
        self.held_out_loss.reset()
        self.log(f"{stage}/loss", loss, prog_bar=True)
        self.log(f"{stage}/perplexity", loss.exp())
        return loss
