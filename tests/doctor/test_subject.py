"""What is loaded: small models whole; of large, quantised and random ones no more than is needed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doctor.small import built
from lightning_neft.doctor import subject
from lightning_neft.doctor.skeleton import load_config
from lightning_neft.doctor.subject import open_subject
from lightning_neft.errors import ModelError


def opened(folder, **options):
    return open_subject(load_config(str(folder)), str(folder), **options)


def test_a_small_model_is_loaded_whole_as_from_pretrained_does(saved):
    model = built("Llama")
    found = opened(saved(model))
    assert found.weights is None
    assert found.root is found.model
    assert torch.equal(found.model.lm_head.weight, model.lm_head.weight)
    assert (found.facts.mode_after_loading, found.facts.mode_in_fit) == ("eval", None)
    assert found.facts.parameters_read == found.facts.parameters == model.num_parameters()
    assert found.facts_after() == found.facts


def test_a_large_model_has_no_weights(saved, monkeypatch):
    monkeypatch.setattr(subject, "_SMALL", 10_000)
    found = opened(saved(built("Llama")))
    assert all(parameter.is_meta for parameter in found.model.parameters())
    assert (found.facts.mode_after_loading, found.facts.parameters_read) == ("eval", 0)


@pytest.mark.parametrize("quantised", ["by the config", "by the fit"])
def test_a_quantised_model_is_not_loaded(quantised, saved):
    folder = saved(built("Llama"))
    config = load_config(str(folder))
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
    config = load_config(str(folder := saved(model)))
    config.dtype = in_config
    found = open_subject(config, str(folder))
    assert found.facts.dtype == str(found.model.dtype).removeprefix("torch.") == expected


def test_without_weights_and_dtype_it_is_float32(tmp_path):
    config = built("Llama").config
    config.dtype = None
    config.save_pretrained(tmp_path)
    assert opened(tmp_path, random_init=True).facts.dtype == "float32"


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
    assert found.facts.mode_in_fit == "train"  # as it is, not as it was said to be
    assert torch.get_default_dtype() == torch.float32
    parts = opened(folder, load=load, is_quantised=True, mode_in_fit="eval")
    assert parts.facts.mode_in_fit == "eval"
    assert [name for name, part in parts.root.named_modules() if part is parts.model] == ["model"]


def test_weights_that_do_not_fit_the_config_are_an_error(saved, capfd):
    folder = saved(built("Llama"))
    config = load_config(str(folder))
    config.vocab_size = 120
    config.save_pretrained(folder)
    with pytest.raises(ModelError, match="do not fit its config"):
        open_subject(config, str(folder))
    capfd.readouterr()  # transformers' own list of what does not fit
