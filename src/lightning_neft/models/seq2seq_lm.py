"""`Seq2SeqLM`: fine-tuning of an encoder-decoder such as T5 or BART."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from lightning_neft.models.batches import model_inputs
from lightning_neft.models.language_model import LanguageModel
from lightning_neft.models.loss import Predictions

__all__ = ["Seq2SeqLM"]


class Seq2SeqLM(LanguageModel):
    """Fine-tunes an encoder-decoder of transformers: the encoder reads the prompt, the decoder writes the answer.

    Batches are dicts of int64 tensors: `input_ids` and `attention_mask` of the encoder, (batch, length), and `labels`,
    the tokens of the answer, (batch, longest answer), -100 on padding. The decoder reads the labels moved by one place.
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
        # Of a decoder's places all but padding have a target: little would be saved by picking them.
        return Predictions(self(batch).logits.flatten(0, 1), batch["labels"].flatten())
