"""`SequenceClassifier`: fine-tunes a model that classifies texts."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from typing_extensions import override

from lightning_neft.data.tokenization import IGNORED
from lightning_neft.errors import ConfigError
from lightning_neft.hub.tokenizer import pad_id
from lightning_neft.models.finetuner import FineTuner
from lightning_neft.models.loss import Predictions

__all__ = ["SequenceClassifier"]


class SequenceClassifier(FineTuner):
    """Fine-tunes a classifier of transformers, one class a text.

    Batches are dicts of int64 tensors: `input_ids` and `attention_mask` (batch, length), and `labels` (batch,), -100
    for a text without a class. Logs `loss`, `accuracy` and `f1` (mean over the classes) of held-out data under `val/`
    and `test/`. The head is new: its first weights come from PyTorch's random state.

    Args:
        base: Folder or hub id of the base model, or `tiny` for the bundled one.
        num_labels: Number of classes; by default that of the data module's `label_names`.
        options: See `FineTuner`.

    Raises:
        ConfigError: An option has an invalid value.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    task_type: ClassVar[str] = "SEQ_CLS"
    has_new_head: ClassVar[bool] = True

    def __init__(self, base: str = "tiny", num_labels: int | None = None, **options: Any) -> None:
        super().__init__(base, **options)
        if num_labels is not None and num_labels < 2:
            raise ConfigError(f"model.num_labels must be 2 or more, got {num_labels!r}")
        self.num_labels = num_labels
        self.label_names: list[str] = []
        """Names of the classes, by index; known once the model is built."""

    @override
    def description(self) -> dict[str, Any]:
        return {**super().description(), "labels": self.label_names}

    @override
    def config_options(self) -> dict[str, Any]:
        datamodule = None if self._trainer is None else self.trainer.datamodule  # type: ignore[attr-defined]
        # Without data they may be those of a checkpoint.
        names = [str(name) for name in getattr(datamodule, "label_names", None) or self.label_names]
        if not names and self.num_labels is None:
            raise ConfigError("the number of classes is unknown: give model.num_labels, or data with labels")
        if names and self.num_labels not in (None, len(names)):
            raise ConfigError(
                f"model.num_labels={self.num_labels}, but the data have {len(names)} classes ({', '.join(names[:5])}"
                f"{', ...' if len(names) > 5 else ''}); omit model.num_labels"
            )
        self.label_names = names or [str(index) for index in range(self.num_labels or 0)]
        return {
            "num_labels": len(self.label_names),
            "id2label": dict(enumerate(self.label_names)),
            "label2id": {name: index for index, name in enumerate(self.label_names)},
            # Decoders find the last token of a text by it.
            "pad_token_id": pad_id(self.tokenizer()),
        }

    @override
    def on_model_built(self) -> None:
        super().on_model_built()
        config = self.model.config.get_text_config()
        # Encoders may have no such entry, and their classes would not take one.
        if hasattr(config, "use_cache"):
            config.use_cache = False
        options: dict[str, Any] = {
            "num_classes": len(self.label_names),
            "ignore_index": IGNORED,
            "validate_args": False,
        }
        self.accuracy = MulticlassAccuracy(average="micro", **options)
        self.f1 = MulticlassF1Score(average="macro", **options)

    @override
    def predictions(self, batch: dict[str, Any]) -> Predictions:
        return Predictions(self(batch).logits, batch["labels"])

    @override
    def add_to_metrics(self, predictions: Predictions) -> Tensor:
        losses = super().add_to_metrics(predictions)
        assert isinstance(predictions.logits, Tensor)
        classes = predictions.logits.argmax(-1)
        self.accuracy.update(classes, predictions.targets)
        self.f1.update(classes, predictions.targets)
        return losses

    @override
    def computed_metrics(self) -> dict[str, Tensor]:
        metrics = {**super().computed_metrics(), "accuracy": self.accuracy.compute(), "f1": self.f1.compute()}
        self.accuracy.reset()
        self.f1.reset()
        return metrics

    @override
    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
        return [self.label_names[index] for index in self(batch).logits.argmax(-1).tolist()]
