"""The tiny models of the 2-step smoke tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from lightning_neft.errors import ModelError
from lightning_neft.hub import tiny_models
from lightning_neft.hub.tiny_models import TINY_MODEL_TYPES, save_tiny_model, tiny_model
from lightning_neft.hub.tokenizer import load_tokenizer

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "opt": "OPTForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "gemma4": "Gemma4ForConditionalGeneration",
    "mistral3": "Mistral3ForConditionalGeneration",
    "t5": "T5ForConditionalGeneration",
    "modernbert": "ModernBertForMaskedLM",
    "bert": "BertForMaskedLM",
}


def test_each_type_is_here() -> None:
    assert set(TINY_MODEL_TYPES) == set(CLASSES)


@pytest.mark.parametrize("model_type", CLASSES)
def test_a_folder_is_a_model_that_fits_its_tokenizer(model_type: str, tmp_path: Path) -> None:
    save_tiny_model(model_type, tmp_path / "model")
    model, report = getattr(transformers, CLASSES[model_type]).from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert model.config.model_type == model_type
    assert sum(parameter.numel() for parameter in model.parameters()) < 150_000
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    assert model.get_input_embeddings().weight.shape[0] == max(tokenizer.get_vocab().values()) + 1
    assert tokenizer.decode(tokenizer("Give the opposite of hot.").input_ids, skip_special_tokens=True) == (
        "Give the opposite of hot."
    )
    assert tokenizer("<|end|>", add_special_tokens=False).input_ids == [tokenizer.convert_tokens_to_ids("<|end|>")]


@pytest.mark.parametrize(
    ("model_type", "lead", "end"), [("llama", 1, 0), ("qwen3", 0, 0), ("t5", 0, 1), ("bert", 1, 1)]
)
def test_the_tokenizer_adds_the_tokens_of_its_type(model_type: str, lead: int, end: int, tmp_path: Path) -> None:
    save_tiny_model(model_type, tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    bare = tokenizer("hot", add_special_tokens=False).input_ids
    assert tokenizer("hot").input_ids == [tokenizer.bos_token_id] * lead + bare + [tokenizer.eos_token_id] * end


def test_the_weights_are_fixed_and_move_no_random_state(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    save_tiny_model("opt", tmp_path / "first")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    save_tiny_model("opt", tmp_path / "second")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_output_layer_is_tied_on_request(tmp_path: Path) -> None:
    for is_tied in (True, False):
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model("llama", tmp_path, is_tied=is_tied))
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == is_tied


def test_a_folder_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model("llama", tmp_path / "cache")
    monkeypatch.setattr(tiny_models, "save_tiny_model", None)  # not called again
    assert tiny_model("llama", tmp_path / "cache") == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_another_version_of_the_table_has_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model("llama", tmp_path)
    monkeypatch.setattr(tiny_models, "_VERSION", -1)
    assert tiny_model("llama", tmp_path) != folder


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(model_type: str, folder: Path, **options: object) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiny_models, "save_tiny_model", half)
    with pytest.raises(ModelError, match=r"cannot be written to .*: No space left on device; give another folder"):
        tiny_model("llama", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_type_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tiny model of type 'lama'; did you mean llama\?"):
        tiny_model("lama", tmp_path)
