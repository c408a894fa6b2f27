"""Sample batches, and the report on any batch."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, T5Config, T5Tokenizer
from transformers.models.led import LEDConfig

from doctor.small import built
from lightning_neft.data.toy import toy_instructions
from lightning_neft.doctor.batch import describe_batch, first_rows, load_tokenizer_if_any, sample_batch
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.noise.embedding import find_embeddings
from tiny import batch as padded_batch


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer_if_any(str(TINY))


def test_a_decoder_gets_labels_on_the_answer(tokenizer):
    batch, source = sample_batch(LlamaConfig(), tokenizer, writes=True)
    assert source == "toy instructions, encoded by the model's tokenizer"
    record = toy_instructions("train")[0]
    length = int(batch["attention_mask"][0].sum())
    text = tokenizer.decode(batch["input_ids"][0, :length], skip_special_tokens=True)
    assert text.startswith(record["instruction"])
    assert text.endswith(record["output"])
    labels = batch["labels"][0]
    answer = labels[labels != -100]
    assert tokenizer.decode(answer, skip_special_tokens=True) == record["output"]
    assert answer[-1] == tokenizer.eos_token_id
    assert torch.equal(answer, batch["input_ids"][0, length - len(answer) : length])
    assert all(tensor.shape == batch["input_ids"].shape for tensor in batch.values())
    assert batch["attention_mask"].sum(-1).unique().numel() > 3


def test_an_encoder_decoder_gets_answers_as_labels(tokenizer):
    batch, _ = sample_batch(T5Config(), tokenizer, writes=True)
    record = toy_instructions("train")[1]
    labels = batch["labels"][1]
    assert tokenizer.decode(labels[labels != -100], skip_special_tokens=True) == record["output"]
    assert record["output"] not in tokenizer.decode(batch["input_ids"][1])


def test_a_model_that_does_not_write_gets_no_labels(tokenizer):
    whole, _ = sample_batch(LlamaConfig(), tokenizer, writes=True)
    batch, _ = sample_batch(LlamaConfig(), tokenizer, writes=False)
    assert batch.keys() == {"input_ids", "attention_mask"}
    assert torch.equal(batch["input_ids"], whole["input_ids"])


def test_without_a_tokenizer_ids_are_random(tokenizer):
    config = LlamaConfig(vocab_size=40, bos_token_id=1, eos_token_id=[2, 3], pad_token_id=0)
    batch, source = sample_batch(config, None, writes=True)
    assert source.startswith("random token ids")
    expected, _ = sample_batch(LlamaConfig(), tokenizer, writes=True)
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    ids = batch["input_ids"][batch["attention_mask"] == 1]
    assert set(ids.tolist()) == set(range(4, 40))
    assert torch.equal(sample_batch(config, None, writes=True)[0]["input_ids"], batch["input_ids"])


def test_image_placeholders_are_not_sampled():
    config = built("LLaVA").config
    ids = sample_batch(config, None, writes=True)[0]["input_ids"]
    assert config.image_token_id == 99
    assert 99 not in ids
    assert 98 in ids


def test_led_gets_a_width_that_fills_its_window(tokenizer):
    batch, _ = sample_batch(LEDConfig(attention_window=[16, 32]), tokenizer, writes=True)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (8, 32)


def test_a_tokenizer_without_its_vocabulary_is_none(saved, tmp_path):
    assert load_tokenizer_if_any(str(saved(built("Llama")))) is None
    # Made without a file: it knows its special tokens alone.
    T5Tokenizer().save_pretrained(saved(built("T5"), "t5"))
    assert load_tokenizer_if_any(str(tmp_path / "t5")) is None
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "model")
    assert load_tokenizer_if_any(str(tmp_path / "model")) is not None


def test_a_batch_is_truncated_to_fit_memory():
    batch = {**padded_batch([4] * 100, 50), "rows": list(range(100)), "class": torch.arange(100)}
    same, rows = first_rows(batch, width=64)
    assert rows == 100
    assert same == batch
    cut, rows = first_rows(batch, width=1 << 14)  # 50 x 2**14 elements a row, of 2**24
    assert rows == 20
    assert cut["input_ids"].shape == (20, 50)
    assert torch.equal(cut["class"], torch.arange(20))
    assert cut["rows"] == batch["rows"]
    assert first_rows(batch, width=1 << 30)[1] == 1


def test_report_on_a_batch():
    batch = padded_batch([7, 3, 5])
    batch["labels"][:2] = -100
    batch["labels"][1, 1] = 4
    report = describe_batch(batch, (), source="here", rows_measured=2, is_of_user=True, longest=5)
    assert (report.rows, report.rows_measured, report.width) == (3, 2, 7)
    assert report.lengths == {"attention_mask": [7, 3, 5]}
    assert (report.labels, report.labelled_tokens, report.rows_without_labels, report.rows_cut) == ("tokens", 6, 1, 2)


def test_report_on_packed_rows_are_of_documents():
    positions = torch.tensor([[0, 1, 2, 0, 1, 0]])
    batch = {"input_ids": torch.ones_like(positions), "position_ids": positions}
    report = describe_batch(batch, (), source="here", rows_measured=1, is_of_user=True)
    assert report.lengths == {"position_ids": [3, 2, 1]}
    assert (report.labels, report.labelled_tokens, report.rows_cut) == (None, None, None)


def test_report_on_an_encoder_decoder_are_of_both_sides():
    batch = padded_batch([7, 3])
    batch["labels"] = torch.tensor([[4, 5, -100], [6, -100, -100]])
    report = describe_batch(batch, find_embeddings(built("T5")), source="here", rows_measured=2, is_of_user=True)
    assert report.lengths == {"attention_mask": [7, 3], "labels": [2, 1]}


def test_report_on_a_batch_with_classes():
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.int64), "labels": torch.tensor([0, 1])}
    report = describe_batch(batch, (), source="here", rows_measured=2, is_of_user=True)
    assert (report.labels, report.rows_without_labels, report.lengths) == ("classes", None, {})
