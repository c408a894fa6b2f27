"""Language models as LightningModules: causal ones, and encoder-decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from lightning_neft.models.batches import check_packing, is_packed, model_inputs, next_tokens
from lightning_neft.models.decoding import generate_answers
from lightning_neft.models.finetuner import FineTuner
from lightning_neft.models.head import OutputHead
from lightning_neft.models.loss import Predictions, TokenMean, token_scores

__all__ = ["CausalLM", "LanguageModel", "Seq2SeqLM"]


class LanguageModel(FineTuner):
    """Fine-tunes a model that writes text.

    Logs `loss`, `perplexity` (the exponential of the mean loss over all tokens) and `token_accuracy` (the share of
    tokens with the highest logit, weighted like the loss) of held-out data under `val/` and `test/`.
    """

    @override
    def on_model_built(self) -> None:
        super().on_model_built()
        self.token_accuracy = TokenMean()
        self.output_head = OutputHead(self.model)

    @override
    def forward(self, batch: dict[str, Any]) -> Any:
        """Run the model on a batch and return its output, logits without a loss."""
        # With a cache transformers would not separate the documents of a packed row.
        return self.model(**model_inputs(batch), use_cache=False)

    @override
    def add_to_metrics(self, predictions: Predictions) -> Tensor:
        # Both from one computation of the logits.
        losses, hits = token_scores(predictions)
        weights = 1.0 if predictions.weights is None else predictions.weights
        weight = predictions.total_weight()
        self.held_out_loss.update((losses * weights).sum(), weight)
        self.token_accuracy.update((hits * weights).sum(), weight)
        return losses

    @override
    def computed_metrics(self) -> dict[str, Tensor]:
        metrics = super().computed_metrics()
        accuracy = self.token_accuracy.compute()
        self.token_accuracy.reset()
        return {**metrics, "perplexity": metrics["loss"].exp(), "token_accuracy": accuracy}

    @override
    def predict_step(self, batch: Sequence[str] | Sequence[Sequence[int]], batch_idx: int) -> list[str]:
        datamodule = None if self._trainer is None else self._trainer.datamodule  # type: ignore[attr-defined]
        return self.generate(batch, batch_size=len(batch), stop_ids=getattr(datamodule, "stop_ids", ()))

    def generate(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        *,
        max_new_tokens: int = 256,
        batch_size: int = 8,
        stop_ids: Sequence[int] = (),
    ) -> list[str]:
        """Return the answer to each prompt: greedy, repetition penalty 1.2. Train and eval modes stay as they are.

        Args:
            prompts: Rendered prompts, or their ids.
            max_new_tokens: Maximum number of tokens of an answer.
            batch_size: Prompts in one forward pass.
            stop_ids: Tokens that end an answer, besides the end token.
        """
        self.configure_model()
        return generate_answers(
            self.model,
            self.tokenizer(),
            prompts,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            stop_ids=stop_ids,
        )


class CausalLM(LanguageModel):
    """Fine-tunes a causal language model of transformers on the labelled tokens of the batch.

    Batches are dicts of tensors: `input_ids`, int64 (batch, length), with `attention_mask`, or `position_ids` for rows
    that hold several documents; and the targets as `loss_index` and `loss_targets`, or else as `labels`
    (batch, length), not shifted, -100 where there is no loss. The loss is computed in blocks of these tokens, without
    the logits of the batch. The first packed batch of a fit checks that the documents of a row do not see each other.
    """

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    task_type: ClassVar[str] = "CAUSAL_LM"

    _is_packing_checked = False

    @override
    def on_fit_start(self) -> None:
        self._is_packing_checked = False

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if not self._is_packing_checked and is_packed(batch):
            self._is_packing_checked = True
            check_packing(self.model, batch, self.architecture)
        return super().training_step(batch, batch_idx)

    @override
    def predictions(self, batch: dict[str, Any]) -> Predictions:
        tokens, ids = next_tokens(batch), batch["input_ids"]
        if "loss_index" in batch and not getattr(self.model.config, "output_router_logits", False):
            # The data layer pads on the right, which no token of a causal model attends to. Without a mask attention
            # takes its faster path. Only a router's loss counts padding.
            batch = {name: value for name, value in batch.items() if name != "attention_mask"}
        self.output_head.prepare(self, batch)
        with self.output_head.at(tokens.index, ids) as request:
            output = self(batch)
        logits = self.output_head.taken(output.logits, request)
        # A mixture of experts returns its router's loss, unweighted, where its config asks for it.
        router = getattr(output, "aux_loss", None)
        auxiliary = None if router is None else router * _router_weight(self.model)
        return Predictions(logits, tokens.targets, tokens.weights, auxiliary)


def _router_weight(model: Any) -> float:
    for name in ("router_aux_loss_coef", "aux_loss_coef"):
        for place in (model, model.config.get_text_config()):
            if hasattr(place, name):
                return float(getattr(place, name))
    return 0.0


class Seq2SeqLM(LanguageModel):
    """Fine-tunes an encoder-decoder of transformers: the encoder reads the prompt, the decoder writes the answer.

    Batches are dicts of int64 tensors: `input_ids` and `attention_mask` of the encoder, (batch, length), and `labels`,
    the tokens of the answer, (batch, longest answer), -100 on padding. The decoder reads them shifted by one.
    """

    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    task_type: ClassVar[str] = "SEQ_2_SEQ_LM"

    @override
    def forward(self, batch: dict[str, Any]) -> Any:
        """Run the model on a batch and return its output, logits without a loss."""
        read = self.model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        return self.model(**model_inputs(batch), decoder_input_ids=read, use_cache=False)

    @override
    def predictions(self, batch: dict[str, Any]) -> Predictions:
        labels = batch["labels"]
        self.output_head.prepare(self, batch)
        # All but padding has a target: little would be saved by picking these places, for which a device is waited for.
        with self.output_head.at(None, labels) as request:
            output = self(batch)
        return Predictions(self.output_head.taken(output.logits, request), labels.flatten())
