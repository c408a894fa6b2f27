"""New tokens get the mean of all rows, in a table that grows only where it must."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_neft.data.tokenizer import add_special_tokens
from lightning_neft.models.vocabulary import grow_embeddings
from tiny import VOCABULARY, llama, t5
from words import tokenizer

TOKENS = len(tokenizer())  # 72: twelve more than the models of tiny.py have rows


def exact_mean(table: torch.Tensor) -> torch.Tensor:
    """Row by row in Python's floats, which are float64."""
    columns = table.double().T.tolist()
    means = [sum(column) / len(column) for column in columns]
    return torch.tensor(means, dtype=torch.float64).to(table.dtype)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_rows_are_the_mean_of_the_old_ones(tied: bool, dtype: torch.dtype) -> None:
    model: Any = llama(tie_word_embeddings=tied).to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs, outputs = (
        before["model.embed_tokens.weight"],
        before["lm_head.weight"],
    )
    assert grow_embeddings(model, tokenizer()) == TOKENS - VOCABULARY
    for table, old in ((model.get_input_embeddings().weight, inputs), (model.get_output_embeddings().weight, outputs)):
        assert (table.shape, table.dtype) == ((TOKENS, 32), dtype)
        assert torch.equal(table[:VOCABULARY], old)
        assert torch.equal(table[VOCABULARY:], exact_mean(old).expand(TOKENS - VOCABULARY, -1))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied
    assert torch.equal(inputs, outputs) is tied
    assert model.config.vocab_size == TOKENS


def test_all_else_stays_and_the_model_runs() -> None:
    model: Any = llama()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grow_embeddings(model, tokenizer())
    for name, tensor in model.state_dict().items():
        if tensor.shape == before[name].shape:
            assert torch.equal(tensor, before[name])
    logits = model(input_ids=torch.tensor([[TOKENS - 1, 3]])).logits
    # The logit of a new token is the mean of the old ones.
    assert torch.allclose(logits[..., TOKENS - 1], logits[..., :VOCABULARY].mean(-1), atol=1e-6)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_table_with_rows_to_spare_stays_as_it_is() -> None:
    model: Any = llama()
    grow_embeddings(model, tokenizer())
    table = model.get_input_embeddings().weight
    assert grow_embeddings(model, tokenizer()) == 0
    assert model.get_input_embeddings().weight is table

    padded: Any = llama(pad_token_id=0)
    padded.resize_token_embeddings(TOKENS + 2, mean_resizing=False)
    words = tokenizer()
    for token in ("<|im_start|>", "<|im_end|>"):
        add_special_tokens(words, [token])
        assert grow_embeddings(padded, words) == 0
        assert len(padded.get_input_embeddings().weight) == TOKENS + 2
    add_special_tokens(words, ["<|one_more|>"])
    assert grow_embeddings(padded, words) == 1


def test_an_encoder_decoder_grows_too() -> None:
    model: Any = t5()
    old = model.get_input_embeddings().weight.clone()
    assert grow_embeddings(model, tokenizer()) == TOKENS - VOCABULARY
    for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):
        assert torch.equal(model.get_submodule(name).weight[VOCABULARY:], exact_mean(old).expand(12, -1))


def test_a_bias_of_the_output_grows_with_its_mean() -> None:
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model: Any = PhiForCausalLM(config)
    bias = torch.randn(VOCABULARY)
    with torch.no_grad():
        model.lm_head.bias.copy_(bias)
    grow_embeddings(model, tokenizer())
    assert torch.equal(model.lm_head.bias[:VOCABULARY], bias)
    assert torch.equal(model.lm_head.bias[VOCABULARY:], bias.double().mean().float().expand(12))


def test_a_classifier_without_output_embeddings_grows() -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    assert grow_embeddings(LlamaForSequenceClassification(config), tokenizer()) == 12


def test_ids_count_and_not_tokens() -> None:
    class WithHole:
        """Three tokens, the last of which has the id 80."""

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0, "b": 1, "c": 80}

    model: Any = llama()
    assert grow_embeddings(model, WithHole()) == 81 - VOCABULARY  # type: ignore[arg-type]
