"""The measurements of an arm: losses, answers, and the curves of its logs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.module import asked
from lightning_neft.evaluation.clean_loss import clean_losses
from lightning_neft.evaluation.memorization import memorization
from lightning_neft.evaluation.text_statistics import statistics_of, token_counts
from lightning_neft.generation.answering import Answerer
from lightning_neft.models.language_models import LanguageModel

if TYPE_CHECKING:
    import lightning as L

    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner
    from lightning_neft.study.arm import Measures

__all__ = ["CURVES", "measure", "read_curves"]


CURVES = ("train/loss", "train/clean_loss", "val/loss", "neft/noise_to_signal")


def read_curves(run: Path, names: Sequence[str] = CURVES) -> dict[str, list[list[float]]]:
    """Return points (step, value) of each curve, in the order of the steps.

    Args:
        run: Folder of the run, with a folder `version_N` for each start.
        names: Columns of the logs.
    """
    points: dict[str, dict[int, float]] = {name: {} for name in names}
    # A later start resumes from an earlier step, and logs the steps from there again.
    for log in sorted(run.glob("version_*/metrics.csv"), key=_number):
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name in names:
                    if row.get(name):
                        points[name][int(row["step"])] = float(row[name])
    return {name: [[step, value] for step, value in sorted(found.items())] for name, found in points.items()}


def _number(log: Path) -> int:
    return int(log.parent.name.removeprefix("version_"))


# Maximum number whose clean loss is measured: a sample is enough, and training sets may be large.
_TRAIN_SAMPLES = 1000


def measure(trainer: L.Trainer, model: FineTuner, data: TextData, measures: Measures) -> dict[str, Any]:
    """Measure the weights that the training ended with.

    Not those of the best checkpoint, which was chosen on the samples that the arms are compared on.

    Args:
        trainer: Its fit has ended.
        model: Its model.
        data: Its data, with held-out samples.
        measures: What to measure besides the losses.

    Returns:
        The measured fields of an `ArmResult`, as JSON values.
    """
    model.to(trainer.strategy.root_device)  # Lightning moves it to the CPU after the fit
    with trainer.precision_plugin.val_step_context():
        held_out = clean_losses(model, data, "held_out")
        # A stream keeps no samples.
        train = clean_losses(model, data, "train", _TRAIN_SAMPLES) if data.prepared.stream is None else None
        answers = _answers(model, data, _held_out(data)[: measures.answers], measures.max_new_tokens)
        copies = _answers(model, data, _train(data, measures.memorization), measures.max_new_tokens)
    tokens = token_counts(data.prepared.tokenizer, _outputs(answers))
    return {
        "held_out_loss": held_out.mean_over_samples,
        "held_out_per_sample": held_out.per_sample,
        "train_clean_loss": None if train is None else train.mean_over_samples,
        "train_per_sample": [] if train is None else train.per_sample,
        "answers": answers,
        "text_statistics": statistics_of(_outputs(answers), tokens=tokens) if answers else None,
        "memorization": memorization(_outputs(copies), [copy["reference"] for copy in copies]) if copies else None,
    }


def _held_out(data: TextData) -> list[Conversation]:
    store = data.prepared.held_out
    assert store is not None
    return [sample for sample in store.samples if isinstance(sample, Conversation)]


def _train(data: TextData, count: int) -> list[Conversation]:
    """Return some training samples, the same for each arm."""
    if not count or data.prepared.stream is not None:
        return []
    samples = [sample for sample in data.prepared.train.samples if isinstance(sample, Conversation) and sample.answer]
    chosen = np.random.default_rng(0).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(chosen.tolist())]


def _answers(
    model: FineTuner, data: TextData, samples: Sequence[Conversation], max_new_tokens: int
) -> list[dict[str, str]]:
    if not samples or not isinstance(model, LanguageModel):
        return []
    prepared = data.prepared
    answerer = Answerer(model.model, prepared.tokenizer, prepared.template, name=model.base)
    outputs = answerer.answers(samples, max_new_tokens=max_new_tokens)
    asked_of = [asked(sample) for sample in samples]
    return [
        {"instruction": question, "output": output.strip(), "reference": reference}
        for (question, reference), output in zip(asked_of, outputs, strict=True)
    ]


def _outputs(answers: Sequence[dict[str, str]]) -> list[str]:
    return [answer["output"] for answer in answers]
