"""What an arm reports: progress, checksums of its batches and weights, and the measurements of its final weights."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.prompts import asked
from lightning_neft.evaluation.clean_loss import clean_losses
from lightning_neft.evaluation.memorization import memorization
from lightning_neft.evaluation.text_statistics import statistics_of, token_counts
from lightning_neft.generation.answering import Answerer
from lightning_neft.models.language_models import LanguageModel
from lightning_neft.study.arm import Progress, Validated

if TYPE_CHECKING:
    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner
    from lightning_neft.study.arm import Measures

__all__ = ["CURVES", "Fingerprint", "ReportToStudy", "measure", "read_curves"]

CURVES = ("train/loss", "train/clean_loss", "val/loss", "val/token_accuracy", "neft/noise_to_signal")

# Odd, so that no bit is lost in the products, which wrap around at 2 ** 64.
_STEP, _PLACE = 6364136223846793005, 2862933555777941757
_SEEN = ("input_ids", "labels")
_SECONDS_BETWEEN = 0.5
# Maximum number whose clean loss is measured: a sample is enough, and training sets may be large.
_TRAIN_SAMPLES = 1000


class Fingerprint(pl.Callback):
    """Keeps a running checksum of the training batches, and one of the trainable weights before the first batch.

    Both are integers modulo 2 ** 64, computed on the device without synchronising. They are saved in the checkpoint, so
    a resumed run ends with those of the uninterrupted one. Each rank keeps its own.

    >>> Fingerprint().digests()
    {'data': '0000000000000000', 'weights': None}
    """

    def __init__(self) -> None:
        # A tensor, because its products wrap around.
        self._data = torch.zeros((), dtype=torch.int64)
        self._weights: int | None = None

    def digests(self) -> dict[str, str | None]:
        """Return both as hexadecimal digits; those of the weights are None before the training."""
        weights = None if self._weights is None else _hex(self._weights)
        return {"data": _hex(int(self._data)), "weights": weights}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._weights is None:
            trained = (weight for weight in pl_module.parameters() if weight.requires_grad)
            self._weights = sum(_sum_of_bytes(weight.detach()) for weight in trained)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for name in _SEEN:
            if isinstance(batch.get(name), Tensor):
                self._data = _checksum(batch[name]) + self._data.to(batch[name].device) * _STEP

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"data": int(self._data), "weights": self._weights}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._data, self._weights = torch.tensor(state_dict["data"]), state_dict["weights"]


def _checksum(values: Tensor) -> Tensor:
    """Return an int64 scalar that depends on the values, their order and their number."""
    flat = values.reshape(-1).to(torch.int64)
    places = torch.arange(1, len(flat) + 1, device=flat.device) * _PLACE
    return ((flat + 2**31) * places).sum()


def _sum_of_bytes(weight: Tensor) -> int:
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return int(local.contiguous().view(-1).view(torch.uint8).sum(dtype=torch.int64))


def _hex(value: int) -> str:
    return f"{value % 2**64:016x}"


class ReportToStudy(pl.Callback):
    """Sends progress and held-out losses to the worker, which replies whether to stop.

    Args:
        connection: To the worker; None on all ranks except the first.
    """

    def __init__(self, connection: Connection | None) -> None:
        self._connection = connection
        self._sent_at = 0.0
        self.is_given_up = False
        """Whether the study has pruned this arm."""

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self._connection is not None and now - self._sent_at > _SECONDS_BETWEEN:
            self._sent_at = now
            self._connection.send(Progress(trainer.global_step, int(trainer.estimated_stepping_batches)))

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = int(trainer.estimated_stepping_batches)
        in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not in_fit or trainer.global_step >= steps:  # at the end there is nothing left to save
            return
        stop = False
        if self._connection is not None:
            loss = trainer.callback_metrics["val/loss"].item()
            self._connection.send(Validated(trainer.global_step, steps, loss))
            stop = self._connection.recv()
        if trainer.strategy.broadcast(stop):
            self.is_given_up = trainer.should_stop = True


def read_curves(run: Path, names: Sequence[str] = CURVES) -> dict[str, list[list[float]]]:
    """Return points (step, value) of each curve, in the order of the steps.

    Args:
        run: Folder of the run, with a folder `version_N` for each start.
        names: Columns of the logs.
    """
    points: dict[str, dict[int, float]] = {name: {} for name in names}
    # A later start resumes from an earlier step, and logs the steps from there again.
    for log in sorted(run.glob("version_*/metrics.csv"), key=lambda log: int(log.parent.name.rpartition("_")[2])):
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name in names:
                    if row.get(name):
                        points[name][int(row["step"])] = float(row[name])
    return {name: [[step, value] for step, value in sorted(found.items())] for name, found in points.items()}


def measure(trainer: pl.Trainer, model: FineTuner, data: TextData, measures: Measures) -> dict[str, Any]:
    """Measure the weights at the end of the training.

    The best checkpoint is not used: it was chosen on the samples that the arms are compared on.

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
        answers = _answers(model, data, _held_out(data), measures.answers, measures.max_new_tokens)
        trained = _train(data, measures.memorization)
        copies = _answers(model, data, trained, len(trained), measures.max_new_tokens)
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
    model: FineTuner, data: TextData, samples: Sequence[Conversation], count: int, max_new_tokens: int
) -> list[dict[str, str]]:
    """Return the answers to the first prompts that leave room for one: a fit cuts samples that are too long."""
    if not samples or not count or not isinstance(model, LanguageModel):
        return []
    prepared = data.prepared
    answerer = Answerer(model.model, prepared.tokenizer, prepared.template, name=model.base)
    samples = list(islice((one for one in samples if answerer.has_room(one, max_new_tokens)), count))
    outputs = answerer.answers(samples, max_new_tokens=max_new_tokens)
    return [
        {"instruction": question, "output": output.strip(), "reference": reference}
        for (question, reference), output in zip(map(asked, samples), outputs, strict=True)
    ]


def _outputs(answers: Sequence[dict[str, str]]) -> list[str]:
    return [answer["output"] for answer in answers]
