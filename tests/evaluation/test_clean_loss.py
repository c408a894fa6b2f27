"""Losses without noise by sample: the model's own losses, whatever the batches, and nothing moved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_neft.callback import NEFTune
from lightning_neft.data.module import TextData
from lightning_neft.data.tokenization import IGNORED
from lightning_neft.errors import DataError
from lightning_neft.evaluation.clean_loss import clean_losses
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import Predictions
from tiny import trainer

WORDS = ("cat", "dog", "hen", "fox", "owl", "bee", "ape")


@pytest.fixture
def data(tmp_path: Path) -> TextData:
    """Samples of different lengths."""
    records = [
        {"instruction": f"Say {word}.", "output": " ".join([word] * (1 + number))} for number, word in enumerate(WORDS)
    ]
    (tmp_path / "data.json").write_text(json.dumps(records))
    found = TextData(str(tmp_path / "data.json"), batch_size=3, val_size=3, cache_dir=str(tmp_path / "cache"))
    found.setup("fit")
    return found


@pytest.fixture(scope="module")
def module() -> CausalLM:
    found = CausalLM("tiny")
    found.configure_model()
    return found


@torch.no_grad()
def _alone(module: CausalLM, data: TextData, split: str) -> list[float]:
    """Each sample's loss as transformers computes it, one by one, without padding."""
    store: Any = getattr(data.prepared, split)
    losses = []
    for index in range(len(store)):
        ids, labels = (torch.tensor(value.tolist())[None] for value in (store[index].input_ids, store[index].labels))
        losses.append(module.model.eval()(input_ids=ids, labels=labels).loss.item())
    return losses


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_each_sample_has_the_loss_that_it_has_alone(split: Any, module: CausalLM, data: TextData) -> None:
    found = clean_losses(module, data, split)
    assert found.per_sample == pytest.approx(_alone(module, data, split), rel=1e-4)
    assert found.samples == list(range(len(found.per_sample)))
    store: Any = getattr(data.prepared, split)
    assert found.tokens == [int((store[index].labels != IGNORED).sum()) for index in range(len(store))]


def test_the_mean_over_held_out_samples_equals_val_loss(module: CausalLM, data: TextData) -> None:
    (logged,) = trainer(limit_val_batches=1.0).validate(module, datamodule=data, verbose=False)
    found = clean_losses(module, data, "held_out")
    assert found.mean_loss == pytest.approx(logged["val/loss"], rel=1e-5)
    # A mean over tokens, which is not the mean over samples of different lengths.
    assert found.mean_loss != pytest.approx(sum(found.per_sample) / len(found.per_sample), rel=1e-3)


def test_it_has_no_noise_or_dropout_and_moves_no_random_state(data: TextData) -> None:
    module = CausalLM("tiny", learning_rate=1e-3)
    trainer(max_steps=1, limit_val_batches=0, callbacks=[NEFTune(alpha=500)]).fit(module, datamodule=data)
    for item in module.modules():
        if hasattr(item, "attention_dropout"):
            item.attention_dropout = 0.5
    modes, random = [item.training for item in module.modules()], torch.get_rng_state()
    first = clean_losses(module, data, "train")
    assert [item.training for item in module.modules()] == modes
    assert any(modes)
    assert torch.equal(torch.get_rng_state(), random)
    assert clean_losses(module, data, "train") == first
    assert first.per_sample == pytest.approx(_alone(module, data, "train"), rel=1e-4)


def test_a_limit_takes_the_same_samples_for_each_model(module: CausalLM, data: TextData) -> None:
    whole, found = clean_losses(module, data, "train"), clean_losses(module, data, "train", 2)
    assert len(found.samples) == 2
    assert found.per_sample == pytest.approx([whole.per_sample[index] for index in found.samples], rel=1e-4)
    assert clean_losses(module, data, "train", 2).samples == found.samples
    assert len({tuple(clean_losses(module, data, "train", 2, seed=seed).samples) for seed in range(6)}) > 1
    assert clean_losses(module, data, "train", 100).samples == whole.samples


class _Says:
    """Takes everything for label 0."""

    def __init__(self, classes: int) -> None:
        self.model = nn.Linear(1, 1)
        self.device = torch.device("cpu")
        self.classes = classes

    def predictions(self, batch: dict[str, Any]) -> Predictions:
        targets = batch["labels"].flatten()
        logits = torch.zeros(len(targets), self.classes)
        logits[:, 0] = 5.0
        return Predictions(logits, targets)


def test_classes_have_one_loss_each(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"fine {'very ' * i},{i % 2}\n" for i in range(5)))
    options = {"task": "sequence_classification", "val_size": 0, "batch_size": 2, "cache_dir": str(tmp_path / "cache")}
    data = TextData(str(tmp_path / "texts.csv"), **options)
    data.setup("fit")
    found = clean_losses(_Says(2), data, "train")  # type: ignore[arg-type]
    likely, unlikely = math.log(1 + math.exp(-5)), math.log(1 + math.exp(5))
    assert found.per_sample == pytest.approx([likely, unlikely, likely, unlikely, likely], rel=1e-4)
    assert found.tokens == [1] * 5
    with pytest.raises(DataError, match="no validation set to compare with"):
        clean_losses(_Says(2), data, "held_out")  # type: ignore[arg-type]


def test_targets_of_encoder_decoders_go_to_their_own_row(tmp_path: Path) -> None:
    records = [{"source": "s", "target": " ".join(["word"] * n)} for n in (1, 4, 2)]
    (tmp_path / "data.json").write_text(json.dumps(records))
    data = TextData(
        str(tmp_path / "data.json"), task="seq2seq_lm", val_size=0, batch_size=2, cache_dir=str(tmp_path / "cache")
    )
    data.setup("fit")
    stub = _Says(5000)
    stub.predictions = lambda batch: Predictions(  # type: ignore[method-assign]
        torch.zeros(batch["labels"].numel(), 5000), batch["labels"].flatten()
    )
    found = clean_losses(stub, data, "train")  # type: ignore[arg-type]
    assert found.tokens == data.prepared.train.trained.tolist()
    assert len(set(found.tokens)) == 3
    assert found.per_sample == pytest.approx([math.log(5000)] * 3, rel=1e-5)
