"""The report: exact numbers, reasons why no noise is applied, and notes."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from doctor.small import built, rms, row_of, subject_of
from lightning_neft.doctor import subject, weights
from lightning_neft.doctor.examine import examine
from lightning_neft.doctor.subject import open_subject
from lightning_neft.errors import ModelError
from lightning_neft.hub.base_config import load_base_config
from lightning_neft.noise.injector import EmbeddingNoise
from tiny import batch as padded_batch

LENGTHS = [12, 7, 4]
OPTIONS = {"alpha": 5.0, "length": "true", "scale": "paper"}


@pytest.fixture
def in_parts(monkeypatch):
    """All models count as large, and all tables."""
    monkeypatch.setattr(subject, "_SMALL", 0)
    monkeypatch.setattr(weights, "_SMALL_TABLE", 0)


def examined(model, batch=None, noise=None, **options):
    batch = padded_batch(LENGTHS) if batch is None else batch
    return examine(subject_of(model), batch, noise or EmbeddingNoise(), **{"options": OPTIONS, **options})


def opened(folder, **options):
    return open_subject(load_base_config(str(folder)), str(folder), **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [("Llama", {}), ("Llama, tied head", {}), ("Llama", {"max_shard_size": "15KB"}), ("Gemma 2", {})],
)
def test_numbers_of_a_model_in_parts_are_those_in_its_file(name, options, saved, in_parts):
    model = built(name)
    folder = saved(model, **options)
    found = opened(folder)
    assert found.weights is not None
    batch = padded_batch(LENGTHS)
    report = examine(found, batch, EmbeddingNoise(), options=OPTIONS)
    [strength] = report.embeddings
    files = [load_file(file) for file in folder.glob("*.safetensors")]
    table = next(tensors["model.embed_tokens.weight"] for tensors in files if "model.embed_tokens.weight" in tensors)
    scale = 32**0.5 if name == "Gemma 2" else 1
    rows = table[batch["input_ids"][batch["attention_mask"] == 1]] * scale
    assert strength.embedding_rms == pytest.approx(rms(rows), rel=1e-5)
    assert strength.token_norm == pytest.approx(rows.double().norm(dim=-1).square().mean().sqrt().item(), rel=1e-5)
    assert strength.multiplier == pytest.approx(scale, rel=1e-5)
    # Each sequence adds as many squares as it has tokens, of 25 / (3 L d) each.
    assert strength.noise_rms == pytest.approx(math.sqrt(3 * 25 / (3 * 32) / sum(LENGTHS)), rel=0.05)
    assert strength.noise_to_signal == pytest.approx(strength.noise_rms / strength.embedding_rms)
    assert strength.table == (100, 32)
    # Of the table the rows in question, and little more.
    distinct = batch["input_ids"].unique().numel()
    assert 32 * distinct <= report.model.parameters_read < 32 * distinct + 100 < report.model.parameters


@pytest.mark.parametrize("name", ["Llama", "GPT-2", "T5", "BERT, masked LM"])
def test_a_model_in_parts_is_reported_as_one_loaded_whole(name, saved, monkeypatch):
    folder = saved(built(name))
    batch = row_of(name).batch()
    whole = opened(folder)
    assert whole.weights is None
    monkeypatch.setattr(subject, "_SMALL", 0)
    parts = opened(folder)
    reports = [examine(one, batch, EmbeddingNoise(), options=OPTIONS).to_json() for one in (whole, parts)]
    assert [report["model"].pop("parameters_read") for report in reports] == [
        parts.report.parameters,
        parts.weights.elements,
    ]
    for one, other in zip(reports[0].pop("embeddings"), reports[1].pop("embeddings"), strict=True):
        assert one == {key: pytest.approx(value) if isinstance(value, float) else value for key, value in other.items()}
    for report in reports:
        for advice in report["warnings"]:
            assert advice["do"]
    assert reports[0] == reports[1]


def test_rounding_in_bfloat16_is_counted_and_reported(saved, in_parts):
    model = built("Gemma 2")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(50)  # as large as trained ones are beside the noise
    folder = saved(model)
    batch = padded_batch([60, 60], 60)
    report = examine(opened(folder, dtype=torch.bfloat16), batch, EmbeddingNoise(0.5), options=OPTIONS)
    [strength] = report.embeddings
    assert strength.dtype == "bfloat16"
    # The noise is uniform within alpha / sqrt(L d); less than half of a step between two numbers is lost.
    model = model.to(torch.bfloat16)
    values = model.get_input_embeddings()(batch["input_ids"]).float().abs()
    half_step = torch.exp2(torch.floor(torch.log2(values)) - 8)
    bound = 0.5 / math.sqrt(60 * 32)
    expected = (half_step / bound).clamp(max=1).mean().item()
    assert strength.unchanged == pytest.approx(expected, abs=0.02)
    assert strength.unchanged > 0.5
    assert report.warnings[0].what.startswith(f"rounding to bfloat16 leaves {strength.unchanged:.0%} of the elements")
    assert "bf16-mixed" in report.warnings[0].do
    assert report.lands


def test_noise_that_rounding_removes_is_not_applied():
    model = built("Llama").to(torch.bfloat16)
    report = examined(model, noise=EmbeddingNoise(1e-7))
    assert report.reason == "rounding to bfloat16 removes all noise on model.embed_tokens"
    assert report.embeddings[0].unchanged == 1


class FedEmbeddings(nn.Module):
    """A model that is fed inputs_embeds made elsewhere."""

    def __init__(self):
        super().__init__()
        self.llama = built("Llama")
        self.signal = nn.Linear(1, 32)
        self.config = self.llama.config

    def get_input_embeddings(self):
        return self.llama.get_input_embeddings()

    def forward(self, input_ids, attention_mask=None):
        return self.llama(inputs_embeds=self.signal(input_ids[..., None].float()), attention_mask=attention_mask)


def test_a_model_fed_inputs_embeds_is_reported():
    report = examined(FedEmbeddings())
    assert not report.lands
    assert "llama.model.embed_tokens was never called. If the model gets inputs_embeds" in report.reason
    assert report.embeddings[0].noise_rms is None
    assert report.embeddings[0].name == "llama.model.embed_tokens"


def test_naming_the_source_of_the_embeddings_helps():
    report = examined(FedEmbeddings(), noise=EmbeddingNoise(target="signal"))
    assert report.lands
    assert report.embeddings[0].found_by == "neftune.target"
    assert report.embeddings[0].multiplier is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CANINE, classification head", "has several embeddings that could be for tokens"),
        ("I-BERT, masked LM", r"ibert.embeddings.word_embeddings returned tuple, not a floating tensor"),
    ],
)
def test_architectures_without_noise_are_reported(name, reason):
    report = examined(built(name), batch=row_of(name).batch())
    assert not report.lands
    assert reason in report.reason


def test_a_target_that_does_not_exist_is_reported():
    report = examined(built("Llama"), noise=EmbeddingNoise(target="model.embed_token"))
    assert "model.embed_tokens" in report.reason
    assert report.embeddings == []


def test_noise_that_is_off_is_not_measured():
    report = examined(built("Llama"), off="it is off", options=None)
    assert report.reason == "it is off"
    assert report.to_json()["noise"] is None
    assert [found.name for found in report.embeddings] == ["model.embed_tokens"]
    assert report.embeddings[0].noise_rms is None


def test_a_scope_without_tokens_is_reported():
    batch = padded_batch(LENGTHS)
    batch["labels"][:] = -100
    report = examined(built("Llama"), batch=batch, noise=EmbeddingNoise(scope="response"))
    assert "attention_mask selects no token" in report.reason
    assert "scope='response'" in report.reason
    assert json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("parts", [False, True])
def test_a_token_beyond_the_table_is_reported(parts, saved, monkeypatch):
    monkeypatch.setattr(weights, "_SMALL_TABLE", 0)
    monkeypatch.setattr(subject, "_SMALL", 0 if parts else subject._SMALL)
    batch = padded_batch(LENGTHS)
    batch["input_ids"][0, 3] = 100
    report = examine(opened(saved(built("Llama"))), batch, EmbeddingNoise(), options=OPTIONS)
    assert report.reason.startswith("the forward pass fails: a token or position id is beyond its table (")
    assert ("has 100 rows, the batch asks for number 100" in report.reason) == parts


def test_lengths_that_do_not_fit_are_reported():
    report = examined(built("GPT-2"), noise=EmbeddingNoise(batch_to_mask=lambda batch: torch.ones(3, 5)))
    assert "the batch has batch_to_mask (3, 5): no rows fit" in report.reason


def test_a_model_that_cannot_be_run_is_an_error():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(60, 4)

        def forward(self, input_ids):
            raise RuntimeError("no kernel\nimage")

    with pytest.raises(ModelError, match="Broken cannot be run up to its first block: RuntimeError: no kernel image;"):
        examined(Broken())


def test_only_the_first_rows_are_measured_with_a_note(monkeypatch):
    from lightning_neft.doctor import batch

    monkeypatch.setattr(batch, "_MAX_ELEMENTS", 2 * 12 * 32)
    report = examined(built("Llama"))
    assert (report.batch.rows, report.batch.rows_measured) == (3, 2)
    assert report.batch.lengths == {"attention_mask": LENGTHS}
    assert report.notes == ["measured on the first 2 of the 3 rows of the batch"]


def test_a_different_ratio_at_the_first_block_is_reported():
    report = examined(built("BERT, masked LM"))
    [strength] = report.embeddings
    assert strength.block == "bert.encoder.layer.0"
    assert strength.block_noise_to_signal < strength.noise_to_signal / 2
    warned = [advice.what for advice in report.warnings]
    assert any(what.startswith("between bert.embeddings.word_embeddings and bert.encoder.layer.0") for what in warned)


def test_random_weights_need_no_checkpoint(tmp_path, in_parts):
    config = built("Llama").config
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    found = opened(tmp_path, random_init=True)
    report = examine(found, padded_batch(LENGTHS), EmbeddingNoise(), options=OPTIONS)
    assert report.model.weights == "random"
    assert report.embeddings[0].embedding_rms == pytest.approx(0.02, rel=0.1)
    assert report.lands


def test_json_has_only_plain_values():
    plain = examined(built("T5"), batch=row_of("T5").batch()).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["lands"] is True
    assert [found["found_by"] for found in plain["embeddings"]] == [
        "the input embedding of the encoder of T5ForConditionalGeneration",
        "the input embedding of the decoder of T5ForConditionalGeneration",
    ]


def test_missing_weights_and_rows_to_add_are_noted(saved, in_parts):
    model = built("GPT-2")
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "transformer.wpe.weight"}
    batch = padded_batch(LENGTHS)
    batch["input_ids"][0, :2] = torch.tensor([104, 100])
    found = opened(saved(model, state_dict=state), load=lambda: None)
    report = examine(found, batch, EmbeddingNoise(), options=OPTIONS)
    assert report.lands
    assert report.notes == [
        "not in the checkpoint, therefore initialised: transformer.wpe.weight",
        "token ids from 100 on are beyond the table: measured as rows of zeros; the fit must add these rows",
    ]


def test_strengths_on_longer_sequences():
    model = built("BERT, masked LM")
    report = examined(model, long=48)
    [long] = report.long
    # 23 sequences of 48 tokens have as many as the batch's three, and more.
    [expected] = examined(model, batch=padded_batch([48] * 23, 48)).embeddings
    assert long.noise_to_signal == pytest.approx(expected.noise_to_signal, rel=0.1)
    assert long.block_noise_to_signal == pytest.approx(expected.block_noise_to_signal, rel=0.1)
    assert long.noise_to_signal < report.embeddings[0].noise_to_signal / 2
    assert examined(model, long=48, off="it is off").long == []
