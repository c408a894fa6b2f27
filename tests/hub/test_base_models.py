"""The catalogue of base models: each size is counted with transformers' own class, on no memory."""

from __future__ import annotations

import pytest
import torch
import transformers

from lightning_neft.errors import ConfigError
from lightning_neft.hub.base_models import base_models, find_base_model, size_config


@pytest.mark.parametrize("name", base_models())
def test_parameters_are_those_of_the_class_in_transformers(name: str) -> None:
    entry = find_base_model(name)
    config = size_config(name)
    is_classifier = entry.architecture.endswith("ForSequenceClassification")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config) if is_classifier else None
        model = model or getattr(transformers, entry.architecture)(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    if entry.model_type == "t5" and not entry.is_tied:
        # transformers 5 unties a T5 only when it meets the second table in a checkpoint.
        counted += entry.vocabulary * entry.width
    assert counted == entry.parameters


@pytest.mark.parametrize("name", [name for name, entry in base_models().items() if entry.active is not None])
def test_active_parameters_are_those_that_a_token_passes_through(name: str) -> None:
    entry = find_base_model(name)
    config = size_config(name)
    with torch.device("meta"):
        model = getattr(transformers, entry.architecture)(config)
    text = config.get_text_config()
    used = getattr(text, "num_experts_per_tok", 1) / getattr(text, "num_local_experts", 1)
    shares = {".experts.": used, "embed_tokens_per_layer": 0}
    counted = sum(
        parameter.numel() * next((share for part, share in shares.items() if part in name), 1)
        for name, parameter in model.get_decoder().named_parameters()
    )
    head = 0 if entry.is_tied else model.get_output_embeddings().weight.numel()
    assert counted + head == entry.active


def test_error_for_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no base model 'llama2-7b'; did you mean llama-2-7b\?"):
        find_base_model("llama2-7b")


def test_each_hub_id_has_one_entry() -> None:
    ids = [entry.hub_id for entry in base_models().values()]
    assert len(ids) == len(set(ids))
