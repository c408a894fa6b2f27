"""What `probe` measures, against the same numbers taken by hooks of the tests' own; and that it leaves no trace."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_neft.errors import ConfigError, NoNoiseError
from lightning_neft.noise.injector import EmbeddingNoise
from lightning_neft.noise.probe import probe
from matrix.architectures import ROWS
from matrix.checks import ALPHA, Case, build, case_of
from matrix.rows import LENGTHS

FIRST_BLOCKS = {
    "Llama": {"model.embed_tokens": "model.layers.0"},
    "Gemma 3, text": {"model.embed_tokens": "model.layers.0"},
    "Granite": {"model.embed_tokens": "model.layers.0"},
    "BERT, masked LM": {"bert.embeddings.word_embeddings": "bert.encoder.layer.0"},
    "BART": {
        "model.encoder.embed_tokens": "model.encoder.layers.0",
        "model.decoder.embed_tokens": "model.decoder.layers.0",
    },
    "Whisper": {"model.decoder.embed_tokens": "model.decoder.layers.0"},
    "LLaVA": {"model.language_model.embed_tokens": "model.language_model.layers.0"},
    "nn.Embedding and nn.TransformerEncoder": {"tokens": "encoder.layers.0"},
    "Longformer, masked LM": {"longformer.embeddings.word_embeddings": "longformer.encoder.layer.0"},
}


def probed(case: Case, **options):
    noise = EmbeddingNoise(ALPHA, target=case.row.target, **options)
    return {found.embedding: found for found in probe(case.model, case.batch, noise=noise, forward=case.forward)}


def rms(values):
    return values.double().square().mean().sqrt().item()


@pytest.mark.parametrize("name", FIRST_BLOCKS)
def test_agrees_with_a_recording_of_both_passes(name):
    case = case_of(name)
    clean, noisy = case.record()
    found = probed(case)
    assert {embedding: strength.block for embedding, strength in found.items()} == FIRST_BLOCKS[name]
    for embedding, [mask] in case.tokens().items():
        strength = found[embedding]
        one, other = clean[embedding][0].outputs[0], noisy[embedding][0].outputs[0]
        mask = nn.functional.pad(mask, (0, one.shape[1] - mask.shape[1]))
        assert (strength.width, strength.dtype, strength.unchanged) == (one.shape[-1], torch.float32, 0.0)
        assert strength.noise_rms == pytest.approx(rms((other - one)[mask]), rel=1e-5)
        assert strength.embedding_rms == pytest.approx(rms(one[mask]), rel=1e-5)
        assert strength.noise_to_signal == pytest.approx(strength.noise_rms / strength.embedding_rms)
        one, other = (recording[strength.block][0].inputs[0] for recording in (clean, noisy))
        assert strength.block_noise_to_signal == pytest.approx(rms((other - one)[mask]) / rms(one[mask]), rel=1e-5)


def test_noise_rms_follows_alpha_width_and_mean_length():
    # Each row holds the energy alpha^2 / 3, whatever its length.
    found = probed(case_of("Llama"))["model.embed_tokens"]
    wanted = math.sqrt(len(LENGTHS) * ALPHA**2 / 3 / (sum(LENGTHS) * 32))
    assert found.noise_rms == pytest.approx(wanted, rel=0.05)


def test_a_multiplier_after_the_embedding_keeps_the_ratio():
    plain, granite = (probed(case_of(name))["model.embed_tokens"] for name in ("Llama", "Granite"))
    assert granite.block_noise_to_signal == pytest.approx(granite.noise_to_signal, rel=1e-5)
    assert granite.block_noise_to_signal == pytest.approx(plain.block_noise_to_signal, rel=1e-5)


def test_a_multiplier_inside_the_embedding_scales_the_signal():
    plain, gemma = (probed(case_of(name))["model.embed_tokens"] for name in ("Llama", "Gemma 3, text"))
    assert gemma.noise_rms == pytest.approx(plain.noise_rms, rel=1e-5)
    assert gemma.embedding_rms / plain.embedding_rms == pytest.approx(math.sqrt(32), rel=0.01)
    assert gemma.block_noise_to_signal == pytest.approx(gemma.noise_to_signal, rel=1e-5)


def test_a_layer_norm_after_the_embedding_changes_the_ratio():
    bert = probed(case_of("BERT, masked LM"))["bert.embeddings.word_embeddings"]
    # Normalised states of which one is almost noise alone are almost unrelated: a ratio near the root of 2.
    assert bert.noise_to_signal > 5 * bert.block_noise_to_signal
    assert bert.block_noise_to_signal < math.sqrt(2)


def test_a_row_longer_than_the_text_has_no_block_to_compare_at():
    found = probed(case_of("Prompt tuning"))["base_model.model.embed_tokens"]
    assert (found.block, found.block_noise_to_signal) == (None, None)


def test_rounding_is_told():
    case = build(next(row for row in ROWS if row.name == "Gemma 3, text"))
    case.model.to(torch.bfloat16)
    found = probed(case)["model.embed_tokens"]
    weak = EmbeddingNoise(0.001)
    rounded = probe(case.model, case.batch, noise=weak)[0]
    assert found.dtype == torch.bfloat16
    assert found.unchanged < 0.05
    assert rounded.unchanged > 0.5
    # All tokens count, those that rounding left as they were too.
    assert rounded.embedding_rms == found.embedding_rms


@pytest.mark.parametrize("length", ["padded", 6])
def test_other_lengths(length):
    found = probed(case_of("Llama"), length=length)["model.embed_tokens"]
    used = 12 if length == "padded" else length
    assert found.noise_rms == pytest.approx(ALPHA / math.sqrt(3 * used * 32), rel=0.05)


def test_dropout_does_not_count_and_modes_and_rng_stay(monkeypatch):
    case = build(next(row for row in ROWS if row.name == "BERT, masked LM"))
    quiet = probed(case)
    case.model.train()
    case.model.bert.encoder.layer[1].eval()
    modes = [module.training for module in case.model.modules()]
    state = torch.get_rng_state()
    assert probed(case) == quiet
    assert [module.training for module in case.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_randomness_of_the_model_is_the_same_in_both_passes():
    model = nn.Sequential(nn.Embedding(9, 64), nn.ModuleDict())
    layers = nn.ModuleList([nn.Identity()])
    model[1]["layers"] = layers
    ids = torch.tensor([[1, 2, 3]])

    def forward():
        layers[0](model[0](ids) + 100 * torch.rand(1))

    [found] = probe(model, {"input_ids": ids}, forward=forward)
    assert found.block == "1.layers.0"
    assert found.block_noise_to_signal < 1


def test_leaves_no_hook_and_keeps_an_attached_noise():
    case = build(next(row for row in ROWS if row.name == "Llama"))
    with EmbeddingNoise(ALPHA) as noise:
        noise.attach(case.model)
        hooks = hooks_of(case.model)
        probe(case.model, case.batch, noise=noise)
        assert hooks_of(case.model) == hooks
        assert [target.name for target in noise.targets] == ["model.embed_tokens"]
    assert not any(hooks_of(case.model))
    assert all(parameter.grad is None for parameter in case.model.parameters())


def test_an_exception_leaves_no_hook_either():
    case = build(next(row for row in ROWS if row.name == "Llama"))

    def forward():
        case.forward()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        probe(case.model, case.batch, forward=forward)
    assert not any(hooks_of(case.model))


def test_no_noise_is_an_error():
    case = case_of("inputs_embeds looked up past the embedding")
    with pytest.raises(NoNoiseError, match="embed_tokens was never called"):
        probed(case)
    with pytest.raises(ConfigError, match="alpha=0"):
        probe(case.model, case.batch, noise=EmbeddingNoise(0))
    assert not any(hooks_of(case.model))


@pytest.mark.slow
def test_a_compiled_model_keeps_no_trace_of_the_measurement():
    case = build(next(row for row in ROWS if row.name == "nn.Embedding and nn.TransformerEncoder"))
    compiled = torch.compile(case.model, backend="eager")
    before = compiled(**case.batch)[1]
    [found] = probe(compiled, case.batch)
    assert found == probe(case.model, case.batch)[0]
    assert torch.equal(compiled(**case.batch)[1], before)


def hooks_of(model):
    return [
        count for module in model.modules() for count in (len(module._forward_hooks), len(module._forward_pre_hooks))
    ]
