"""`Seq2SeqLM`: its loss, noise on both sides, adapters, and what it writes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neft import NEFTune
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models.blocked_loss import HeadInput
from lightning_neft.models.language_models import Seq2SeqLM
from lightning_neft.models.loss import mean_loss
from lightning_neft.models.trainable import LoraOptions
from models.words import fit
from tiny import LoggedRows, trainer


def batch(lengths: list[int], answers: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Right-padded prompts and answers; padding of the answers is -100."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 29, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    targets = torch.randint(3, 29, (len(answers), max(answers)), generator=generator)
    labels = torch.where(torch.arange(max(answers)) < torch.tensor(answers)[:, None], targets, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def data(count: int) -> Any:
    batches = [batch([4 + n % 3, 9], [6, 2 + n % 4], seed=n) for n in range(count)]
    return torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def built(base: str, **options: Any) -> Seq2SeqLM:
    module = Seq2SeqLM(base, **options)
    module.configure_model()
    return module


def test_the_loss_is_the_models_own(encoder_decoder: str) -> None:
    module = built(encoder_decoder, keep_eval=True).double()
    given = batch([5, 9], [6, 3])
    expected = module.model(**given).loss
    given["step_share"] = torch.tensor(0.5)
    predictions = module.predictions(given)
    assert isinstance(predictions.logits, HeadInput)
    loss = mean_loss(predictions)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    parameters = list(module.model.parameters())
    found, wanted = (
        torch.cat([gradient.flatten() for gradient in torch.autograd.grad(value, parameters)])
        for value in (loss, expected)
    )
    assert (found - wanted).norm() < 1e-12 * wanted.norm()


def test_held_out_metrics_are_means_over_tokens(encoder_decoder: str) -> None:
    module = built(encoder_decoder)
    module.model.eval()
    total = hits = tokens = 0.0
    for given in data(20):
        for ids, mask, labels in zip(given["input_ids"], given["attention_mask"], given["labels"], strict=True):
            ids, labels = ids[None, mask == 1], labels[None, labels != -100]
            with torch.no_grad():
                output = module.model(input_ids=ids, labels=labels)
            total += output.loss.item() * labels.numel()
            hits += (output.logits.argmax(-1) == labels).sum().item()
            tokens += labels.numel()
    (metrics,) = trainer().validate(module, data(20), verbose=False)
    assert 0 < hits < tokens
    assert metrics == {
        "val/loss": pytest.approx(total / tokens, rel=1e-4),
        "val/perplexity": pytest.approx(math.exp(total / tokens), rel=1e-4),
        "val/token_accuracy": pytest.approx(hits / tokens, rel=1e-5),
    }


@pytest.mark.parametrize("lora", [None, LoraOptions(r=2)])
def test_it_trains_with_noise_on_what_encoder_and_decoder_read(encoder_decoder: str, lora: LoraOptions | None) -> None:
    module = built(encoder_decoder, lora=lora, learning_rate=0.05, warmup_ratio=0.0)
    # A tied weight under all of its names.
    before = {name: value.clone() for name, value in module.named_parameters(remove_duplicate=False)}
    neftune = NEFTune(alpha=5)
    places: set[str] = set()

    class Watched(LoggedRows):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            places.update(target.name for target in neftune.noise.targets)
            super().log_metrics(metrics, step)

    logger = Watched()
    fit(module, 3, data(3), callbacks=[neftune], logger=logger, log_every_n_steps=1)
    assert len(places) == 2
    assert all("coder" in place for place in places)
    losses = [row["train/loss"] for row in logger.rows if "train/loss" in row]
    assert len(losses) == 3
    after = module.named_parameters(remove_duplicate=False)
    changed = {name for name, value in after if not torch.equal(value, before[name])}
    assert changed == module.trained
    if lora is not None:
        assert all(".lora_" in name for name in changed)
        assert any(".encoder." in name for name in changed)
        assert any(".decoder." in name for name in changed)


def greedy_by_hand(model: nn.Module, start: int, prompt: list[int], steps: int) -> list[int]:
    """The penalty counts what the decoder has written, its first token included."""
    written = [start]
    for _ in range(steps):
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([written])).logits[0, -1]
        for token in set(written):
            scores[token] = scores[token] / 1.2 if scores[token] > 0 else scores[token] * 1.2
        written.append(int(scores.argmax()))
        if written[-1] == 1:
            break
    return written[1:]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_answers_are_those_of_a_plain_loop(encoder_decoder: str, batch_size: int) -> None:
    prompts = ["a b c", "d", "x y z u v w"]
    module, tokenizer = built(encoder_decoder), load_tokenizer(encoder_decoder)
    plain = built(encoder_decoder).model.eval()
    encoded = tokenizer(prompts)["input_ids"]
    assert all(ids[-1] == tokenizer.eos_token_id for ids in encoded)
    start = plain.config.decoder_start_token_id
    written = [greedy_by_hand(plain, start, ids, 5) for ids in encoded]
    expected = tokenizer.batch_decode(written, skip_special_tokens=True)
    assert len(set(expected)) > 1
    assert module.generate(prompts, max_new_tokens=5, batch_size=batch_size) == expected
    assert module.generate(encoded, max_new_tokens=5, batch_size=batch_size) == expected
