"""What is loaded: small models whole; of large, quantised and random ones no more than is needed."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, PretrainedConfig

from doctor.small import NAMES, built
from lightning_neft.doctor import subject
from lightning_neft.doctor.subject import build_skeleton, has_dropout, model_class, open_subject
from lightning_neft.errors import ModelError
from lightning_neft.hub.base_config import load_base_config
from lightning_neft.hub.tiny_models import TINY


def opened(folder, **options):
    return open_subject(load_base_config(str(folder)), str(folder), **options)


def test_a_small_model_is_loaded_whole_as_from_pretrained_does(saved):
    model = built("Llama")
    found = opened(saved(model))
    assert found.weights is None
    assert found.root is found.model
    assert torch.equal(found.model.lm_head.weight, model.lm_head.weight)
    assert (found.report.mode_after_loading, found.report.mode_in_fit) == ("eval", None)
    assert found.report.parameters_read == found.report.parameters == model.num_parameters()
    assert found.report_after() == found.report


def test_a_large_model_has_no_weights(saved, monkeypatch):
    monkeypatch.setattr(subject, "_SMALL", 10_000)
    found = opened(saved(built("Llama")))
    assert all(parameter.is_meta for parameter in found.model.parameters())
    assert (found.report.mode_after_loading, found.report.parameters_read) == ("eval", 0)


@pytest.mark.parametrize("quantised", ["by the config", "by the fit"])
def test_a_quantised_model_is_not_loaded(quantised, saved):
    folder = saved(built("Llama"))
    config = load_base_config(str(folder))
    if quantised == "by the config":
        config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    found = open_subject(config, str(folder), is_quantised=quantised == "by the fit")
    assert found.weights is not None


@pytest.mark.parametrize(
    ("in_config", "in_file", "expected"),
    [
        (torch.bfloat16, torch.float32, "bfloat16"),
        (None, torch.float16, "float16"),
    ],
)
def test_the_dtype_is_the_one_that_from_pretrained_gives(in_config, in_file, expected, saved):
    model = built("Llama").to(in_file)
    config = load_base_config(str(folder := saved(model)))
    config.dtype = in_config
    found = open_subject(config, str(folder))
    assert found.report.dtype == str(found.model.dtype).removeprefix("torch.") == expected


def test_without_weights_and_dtype_it_is_float32(tmp_path):
    config = built("Llama").config
    config.dtype = None
    config.save_pretrained(tmp_path)
    assert opened(tmp_path, random_init=True).report.dtype == "float32"


def test_in_a_fit_names_are_those_below_the_lightning_module(saved):
    folder = saved(built("Llama"))
    module = nn.Module()

    def load():
        assert torch.get_default_dtype() == torch.bfloat16
        module.model = built("Llama").train()
        return module

    found = opened(folder, load=load, dtype=torch.bfloat16, mode_in_fit="eval")
    assert found.root is module
    assert found.model is module.model
    assert found.report.mode_in_fit == "train"  # as it is, not as it was said to be
    assert torch.get_default_dtype() == torch.float32
    parts = opened(folder, load=load, is_quantised=True, mode_in_fit="eval")
    assert parts.report.mode_in_fit == "eval"
    assert [name for name, part in parts.root.named_modules() if part is parts.model] == ["model"]


def test_weights_that_do_not_fit_the_config_are_an_error(saved, capfd):
    folder = saved(built("Llama"))
    config = load_base_config(str(folder))
    config.vocab_size = 120
    config.save_pretrained(folder)
    with pytest.raises(ModelError, match="do not fit its config"):
        open_subject(config, str(folder))
    capfd.readouterr()  # transformers' own list of what does not fit


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Whisper"])
def test_it_is_the_model_of_the_config_without_weights(name, tmp_path):
    model = built(name)
    # As save_pretrained writes it.
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    skeleton = build_skeleton(load_base_config(str(tmp_path)), "here", torch.bfloat16)
    assert type(skeleton) is type(model)
    assert not skeleton.training
    assert skeleton.num_parameters() == sum(parameter.numel() for parameter in model.parameters())
    assert {name: tensor.shape for name, tensor in skeleton.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert skeleton.dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


def test_a_config_without_a_class_is_a_language_model():
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
        build_skeleton(load_base_config(str(tmp_path)), "here", torch.float32)


def test_dropout_is_found_at_any_level_of_a_config():
    assert not has_dropout(load_base_config("tiny"))
    assert has_dropout(LlamaConfig(attention_dropout=0.1))
    assert has_dropout(AutoConfig.for_model("gpt2"))  # embd_pdrop and others
    assert not has_dropout(AutoConfig.for_model("gpt2", embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0))
    nested = AutoConfig.for_model("llava", text_config={"model_type": "llama", "attention_dropout": 0.2})
    assert has_dropout(nested)
