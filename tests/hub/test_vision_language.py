"""Which configs are of vision-language bases, and the class that loads each whole."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from lightning_neft.hub.vision_language import is_vision_language, loading_class


@pytest.mark.parametrize(
    "model_type", ["gemma3", "gemma4", "qwen3_5", "qwen3_vl", "mistral3", "smolvlm", "idefics3", "lfm2_vl", "llava"]
)
def test_a_decoder_that_reads_images_is_loaded_whole(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    assert is_vision_language(config)
    assert loading_class("AutoModelForCausalLM", config) == "AutoModelForImageTextToText"
    assert loading_class("AutoModelForSequenceClassification", config) == "AutoModelForSequenceClassification"


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "qwen3_5_text", "t5", "t5gemma", "bart"])
def test_other_bases_keep_their_class(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    assert not is_vision_language(config)
    assert loading_class("AutoModelForCausalLM", config) == "AutoModelForCausalLM"
