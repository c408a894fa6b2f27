"""`SequenceClassifier`: classes, loss, metrics, adapters with a trained head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_neft import NEFTune
from lightning_neft.errors import ConfigError
from lightning_neft.hub.tiny_models import save_tiny_model
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models.sequence_classifier import SequenceClassifier
from lightning_neft.models.trainable import LoraOptions
from models.words import fit
from tiny import trainer


def batch(lengths: list[int], labels: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Texts padded with the id that stands for padding, each with a class."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 29, mask.shape, generator=generator)
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask, "labels": torch.tensor(labels)}


BATCHES = [batch([5, 9, 3], [0, 2, -100], 1), batch([4, 7, 8], [1, 1, 2], 2), batch([6], [0], 3)]


class Texts(L.LightningDataModule):
    """Batches with the names of their classes."""

    label_names = ("bad", "fair", "good")

    def train_dataloader(self) -> Any:
        return DataLoader([batch([5, 9], [n % 3, 2], n) for n in range(4)], batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        return DataLoader(BATCHES, batch_size=None)  # type: ignore[arg-type]

    predict_dataloader = val_dataloader


def test_classes_come_from_the_data(classified: str) -> None:
    module = SequenceClassifier(classified)
    trainer(max_steps=1, limit_val_batches=0).fit(module, Texts())
    assert module.model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert module.model.config.label2id == {"bad": 0, "fair": 1, "good": 2}
    predicted = trainer().predict(module, Texts())
    assert [len(names) for names in predicted] == [3, 3, 1]
    assert {name for names in predicted for name in names} <= set(Texts.label_names)


def test_or_from_the_option(classified: str) -> None:
    module = SequenceClassifier(classified, num_labels=5)
    module.configure_model()
    assert module(BATCHES[0]).logits.shape == (3, 5)


def metrics_by_hand(module: SequenceClassifier) -> dict[str, float]:
    """From one text at a time, without padding."""
    true, guessed, losses = [], [], []
    module.model.eval()
    for given in BATCHES:
        for ids, mask, label in zip(given["input_ids"], given["attention_mask"], given["labels"].tolist(), strict=True):
            if label == -100:
                continue
            with torch.no_grad():
                logits = module.model(input_ids=ids[None, mask == 1]).logits
            losses.append(F.cross_entropy(logits, torch.tensor([label])).item())
            true.append(label)
            guessed.append(int(logits.argmax()))
    scores = []
    for label in set(true) | set(guessed):
        hits = sum(t == g == label for t, g in zip(true, guessed, strict=True))
        scores.append(2 * hits / (true.count(label) + guessed.count(label)))
    return {
        "val/loss": sum(losses) / len(losses),
        "val/accuracy": sum(t == g for t, g in zip(true, guessed, strict=True)) / len(true),
        "val/f1": sum(scores) / len(scores),
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_metrics_are_those_of_texts_one_at_a_time(classified: str, seed: int) -> None:
    torch.manual_seed(seed)  # of the head
    module = SequenceClassifier(classified, num_labels=3)
    module.configure_model()
    (metrics,) = trainer().validate(module, DataLoader(BATCHES, batch_size=None), verbose=False)  # type: ignore[arg-type]
    assert metrics == pytest.approx(metrics_by_hand(module), rel=1e-4)


def test_it_learns_to_tell_two_words_apart_with_noise(classified: str) -> None:
    torch.manual_seed(0)

    def texts(seed: int) -> dict[str, Tensor]:
        given = batch([6, 4, 8, 5], [0, 1, 1, 0], seed)
        ids = given["input_ids"]
        ids[(ids == 4) | (ids == 5)] = 6
        ids[:, 0] = 4 + given["labels"]  # the word that tells
        return given

    module = SequenceClassifier(classified, num_labels=2, learning_rate=5e-3, keep_eval=True)
    held_out = DataLoader([texts(100 + n) for n in range(8)], batch_size=None)  # type: ignore[arg-type]
    fit(module, 60, DataLoader([texts(n) for n in range(60)], batch_size=None), callbacks=[NEFTune(alpha=1)])  # type: ignore[arg-type]
    (metrics,) = trainer().validate(module, held_out, verbose=False)
    assert metrics["val/accuracy"] > 0.9


def test_with_adapters_the_head_is_trained_and_saved(classified: str, tmp_path: Path) -> None:
    module = SequenceClassifier(classified, num_labels=3, lora=LoraOptions(r=2), learning_rate=0.1, warmup_ratio=0.0)
    data = DataLoader([batch([5, 9], [n % 3, 2], n) for n in range(3)], batch_size=None)  # type: ignore[arg-type]
    fitted = fit(module, 3, data)
    heads = {name for name in module.trained if ".lora_" not in name}
    assert heads
    assert all("modules_to_save" in name for name in heads)
    fitted.save_checkpoint(tmp_path / "c.ckpt")
    loaded = SequenceClassifier.load_from_checkpoint(
        tmp_path / "c.ckpt", base=classified, num_labels=3, lora=LoraOptions(r=2), weights_only=True
    )
    for name in module.trained:
        assert torch.equal(loaded.get_parameter(name), module.get_parameter(name)), name
    with torch.no_grad():
        expected, found = (m.eval()(BATCHES[1]).logits for m in (module, loaded))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "with_names", "message"),
    [
        ({}, False, "the number of classes is unknown: give model.num_labels, or data with labels"),
        ({"num_labels": 4}, True, r"model.num_labels=4, but the data have 3 classes \(bad, fair, good\)"),
        ({"num_labels": 1}, False, "model.num_labels must be 2 or more, got 1"),
    ],
)
def test_numbers_of_classes_that_cannot_be_are_refused(
    base: str, options: dict[str, Any], with_names: bool, message: str
) -> None:
    def start() -> None:
        module = SequenceClassifier(base, **options)
        if with_names:
            trainer().fit(module, Texts())
        module.configure_model()

    with pytest.raises(ConfigError, match=message):
        start()


def test_a_base_with_other_classes_gets_a_new_head(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForSequenceClassification(BertConfig(vocab_size=1024, num_labels=5, **sizes)).save_pretrained(tmp_path)
    load_tokenizer("tiny").save_pretrained(tmp_path)
    module = SequenceClassifier(str(tmp_path), num_labels=3)
    module.configure_model()
    assert module.model.classifier.weight.shape == (3, 16)


def test_use_cache_is_off_where_a_config_has_it(base: str, tmp_path: Path) -> None:
    decoder = SequenceClassifier(base, num_labels=2)
    decoder.configure_model()
    assert decoder.model(**{name: BATCHES[0][name] for name in ("input_ids", "attention_mask")}).past_key_values is None
    save_tiny_model("modernbert", tmp_path / "modernbert")
    encoder = SequenceClassifier(str(tmp_path / "modernbert"), num_labels=2)
    encoder.configure_model()
    assert encoder.architecture == "ModernBertForSequenceClassification"
    assert not hasattr(encoder.model.config, "use_cache")
