"""`CausalLM`: supervised fine-tuning of a causal language model."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from lightning_neft.models.batches import check_packing, is_packed, next_tokens
from lightning_neft.models.language_model import LanguageModel
from lightning_neft.models.loss import Predictions, ResponseLogits

__all__ = ["CausalLM"]


class CausalLM(LanguageModel):
    """Fine-tunes a causal language model of transformers on the labelled tokens of the batch.

    Batches are dicts of tensors: `input_ids`, int64 (batch, length), with `attention_mask`, or `position_ids` for rows
    that hold several documents; and what is to be learnt as `loss_index` and `loss_targets`, or else as `labels`
    (batch, length), not shifted, -100 where there is no loss. Logits are computed at these places alone. At the first
    packed batch of a fit the model is asked whether the documents of a row do not see each other.
    """

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    task_type: ClassVar[str] = "CAUSAL_LM"

    _is_packing_checked = False

    @override
    def on_model_built(self) -> None:
        super().on_model_built()
        self.response_logits = ResponseLogits(self.model)

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
            # The data layer pads on the right, where no token of a causal model looks. Without a mask the attention
            # takes its faster path. Only a router's loss counts the places of padding.
            batch = {name: value for name, value in batch.items() if name != "attention_mask"}
        with self.response_logits.at(tokens.index, ids):
            output = self(batch)
        logits = self.response_logits.picked(output.logits, tokens.index, ids.shape)
        # A mixture of experts gives the loss of its router where its config asks for it, without a weight.
        router = getattr(output, "aux_loss", None)
        auxiliary = None if router is None else router * _router_weight(self.model)
        return Predictions(logits, tokens.targets, tokens.weights, auxiliary)


def _router_weight(model: Any) -> float:
    for name in ("router_aux_loss_coef", "aux_loss_coef"):
        for place in (model, model.config.get_text_config()):
            if hasattr(place, name):
                return float(getattr(place, name))
    return 0.0
