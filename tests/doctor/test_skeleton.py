"""Models from their config alone."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, PretrainedConfig

from doctor.small import NAMES, built
from lightning_neft.doctor.skeleton import (
    build_skeleton,
    find_base,
    has_dropout,
    load_config,
    model_class,
)
from lightning_neft.errors import ModelError
from lightning_neft.hub.tiny_models import TINY


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Whisper"])
def test_it_is_the_model_of_the_config_without_weights(name, tmp_path):
    model = built(name)
    # As save_pretrained writes it.
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    skeleton = build_skeleton(load_config(str(tmp_path)), "here", torch.bfloat16)
    assert type(skeleton) is type(model)
    assert not skeleton.training
    assert skeleton.num_parameters() == sum(parameter.numel() for parameter in model.parameters())
    assert {name: tensor.shape for name, tensor in skeleton.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert skeleton.dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


def test_tiny_and_a_config_file_can_be_named(tmp_path):
    assert find_base("tiny") == str(TINY)
    file = tmp_path / "config.json"
    file.write_text((TINY / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_config(str(file)).hidden_size == load_config("tiny").hidden_size == 128


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, r"has no config\.json; give the folder of a transformers model"),
        (
            lambda folder: (folder / "adapter_config.json").touch(),
            "holds only adapters; give the model that they were",
        ),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            r"the config of model base .* cannot be loaded: .*JSON",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "nonesuch"}'),
            r"the config of model base .* cannot be loaded: .*nonesuch",
        ),
    ],
)
def test_a_folder_without_a_config_of_use_is_an_error(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_config(str(tmp_path))


def test_a_file_that_is_not_a_config_is_an_error(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match=r"is a file; give a folder"):
        load_config(str(tmp_path / "model.safetensors"))


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        load_config(str(tmp_path / "nope"))


def test_a_config_that_names_no_class_is_that_of_a_language_model():
    config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    config.architectures = ["Nonesuch"]
    assert model_class(config) is None
    assert type(build_skeleton(config, "here", torch.float32)) is LlamaForCausalLM


def test_names_that_are_not_models_are_ignored():
    assert model_class(PretrainedConfig(architectures=["AutoConfig", "pipeline"])) is None


def test_a_model_that_does_not_read_tokens_is_an_error():
    config = AutoConfig.for_model("vit", hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    config.architectures = ["ViTForImageClassification"]
    with pytest.raises(ModelError, match="ViTForImageClassification reads pixel_values, but doctor only has samples"):
        build_skeleton(config, "here", torch.float32)


def test_a_model_that_cannot_be_built_is_an_error(tmp_path):
    values = json.loads((TINY / "config.json").read_text(encoding="utf-8")) | {"hidden_act": "nonesuch"}
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ModelError, match=r"the architecture of model base 'here' cannot be loaded: .*nonesuch"):
        build_skeleton(load_config(str(tmp_path)), "here", torch.float32)


def test_dropout_is_found_at_any_level_of_a_config():
    assert not has_dropout(load_config("tiny"))
    assert has_dropout(LlamaConfig(attention_dropout=0.1))
    assert has_dropout(AutoConfig.for_model("gpt2"))  # embd_pdrop and others
    assert not has_dropout(AutoConfig.for_model("gpt2", embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0))
    nested = AutoConfig.for_model("llava", text_config={"model_type": "llama", "attention_dropout": 0.2})
    assert has_dropout(nested)
