"""What is measured of an arm once it is trained: losses without noise, answers, how long and how copied they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.plan import BatchPlan, PlannedSamples
from lightning_neft.models.language_model import LanguageModel
from lightning_neft.models.loss import mean_loss
from lightning_neft.models.modes import evaluating

if TYPE_CHECKING:
    import lightning as L

    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner
    from lightning_neft.study.arm import Measures

__all__ = ["measure"]


def measure(trainer: L.Trainer, model: FineTuner, data: TextData, measures: Measures) -> dict[str, Any]:
    """Measure the weights that the training ended with.

    Not those of the best checkpoint: that one was chosen by the very samples that the arms are compared on.

    Returns:
        What an arm of a result of the kind `study` holds of these.
    """
    model.to(trainer.strategy.root_device)  # Lightning moves it to the CPU after the fit
    with trainer.precision_plugin.forward_context():
        losses = _losses(model, data)
    found: dict[str, Any] = {
        "held_out_loss": sum(losses) / len(losses),
        "train_clean_loss": None,
        "held_out_per_sample": losses,
        "answers": [],
        "text_statistics": None,
        "memorization": None,
    }
    if isinstance(model, LanguageModel) and measures.answers:
        found["answers"] = _answers(model, data, measures)
    return found


def _losses(model: FineTuner, data: TextData) -> list[float]:
    store = data.prepared.held_out
    assert store is not None
    loader = DataLoader(
        PlannedSamples(store),
        batch_size=None,
        sampler=[BatchPlan(((n,),)) for n in range(len(store))],  # type: ignore[arg-type]
        collate_fn=Collator(data._pad_id, data.options.task, "random"),  # type: ignore[arg-type]
    )
    with torch.no_grad(), evaluating(model.model):
        return [mean_loss(model.predictions(batch)).item() for batch in loader]


def _answers(model: LanguageModel, data: TextData, measures: Measures) -> list[dict[str, str]]:
    prompts = data.sample_prompts(measures.answers)
    answers = model.generate(
        [ids for _, ids, _ in prompts], max_new_tokens=measures.max_new_tokens, stop_ids=data.stop_ids
    )
    return [
        {"instruction": text, "output": answer.strip(), "reference": reference}
        for (text, _, reference), answer in zip(prompts, answers, strict=True)
    ]
