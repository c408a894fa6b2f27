"""LightningModules on transformers: how they are built, what they train, their loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.models.execution import evaluating
    from lightning_neft.models.finetuner import FineTuner
    from lightning_neft.models.language_models import CausalLM, LanguageModel, Seq2SeqLM
    from lightning_neft.models.loss import Predictions, TokenMean, share_of_step, summed_loss
    from lightning_neft.models.pretrained import PretrainedModule
    from lightning_neft.models.sequence_classifier import SequenceClassifier
    from lightning_neft.models.trainable import LoraOptions

__all__ = [
    "CausalLM",
    "FineTuner",
    "LanguageModel",
    "LoraOptions",
    "Predictions",
    "PretrainedModule",
    "Seq2SeqLM",
    "SequenceClassifier",
    "TokenMean",
    "evaluating",
    "share_of_step",
    "summed_loss",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CausalLM": "language_models",
        "FineTuner": "finetuner",
        "LanguageModel": "language_models",
        "LoraOptions": "trainable",
        "Predictions": "loss",
        "PretrainedModule": "pretrained",
        "Seq2SeqLM": "language_models",
        "SequenceClassifier": "sequence_classifier",
        "TokenMean": "loss",
        "evaluating": "execution",
        "share_of_step": "loss",
        "summed_loss": "loss",
    },
)
