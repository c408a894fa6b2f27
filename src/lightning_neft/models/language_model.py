"""`LanguageModel`: what causal and sequence-to-sequence models share: token metrics and generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_neft.data.tokenization import IGNORED
from lightning_neft.models.batches import model_inputs
from lightning_neft.models.decoding import generate_answers
from lightning_neft.models.finetuner import FineTuner
from lightning_neft.models.loss import Predictions, TokenMean

__all__ = ["LanguageModel"]


class LanguageModel(FineTuner):
    """Fine-tunes a model that writes text.

    Logs `loss`, `perplexity` (the exponential of the mean loss over all tokens) and `token_accuracy` (the share of
    tokens that the model would have written, weighted as the loss is) of held-out data under `val/` and `test/`.
    """

    @override
    def on_model_built(self) -> None:
        super().on_model_built()
        self.token_accuracy = TokenMean()

    @override
    def forward(self, batch: dict[str, Any]) -> Any:
        """Run the model on a batch and return its output, logits without a loss."""
        # With a cache transformers would not look for several documents in a row.
        return self.model(**model_inputs(batch), use_cache=False)

    @override
    def add_to_metrics(self, predictions: Predictions) -> None:
        super().add_to_metrics(predictions)
        targets = predictions.targets
        weights = (targets != IGNORED) * (1.0 if predictions.weights is None else predictions.weights)
        self.token_accuracy.update(((predictions.logits.argmax(-1) == targets) * weights).sum(), weights.sum())

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
            prompts: Prompts as the template words them, or their ids.
            max_new_tokens: The most tokens of an answer.
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
