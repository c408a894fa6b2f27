"""New tokens get the mean of all rows, in a table that grows only where it must, and are trained from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_neft.errors import ConfigError
from lightning_neft.generation.sources import load_model
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer, pad_id
from lightning_neft.models.decoding import generate_answers
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.models.vocabulary import grow_embeddings, lacking_rows, names_from, rows_line
from lightning_neft.saving.folder import save_model
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


def folder_of(path: Path, *, tied: bool, **tokens: str) -> str:
    """A base whose tokenizer has what is given beyond the rows of its table."""
    words = tokenizer()
    words.add_special_tokens(tokens)
    model: Any = llama(tie_word_embeddings=tied)
    model.resize_token_embeddings(TOKENS, mean_resizing=False)
    model.save_pretrained(path)
    words.save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("tied", [False, True])
def test_rows_of_new_tokens_are_trained_under_adapters(tied: bool, tmp_path: Path) -> None:
    module = CausalLM(folder_of(tmp_path / "base", tied=tied), lora=LoraOptions(r=2))
    module.special_tokens = ("<|im_start|>", "<|im_end|>")
    module.configure_model()
    ids = torch.tensor([[0, 72, 58, 73, 60, 73]])
    optimizer = torch.optim.AdamW([parameter for parameter in module.parameters() if parameter.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        module.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    save_model(module, tmp_path / "adapters")

    loaded = load_model(str(tmp_path / "adapters")).model.merge_and_unload()
    merged = module.model.merge_and_unload()
    for table, other in (
        (merged.get_input_embeddings(), loaded.get_input_embeddings()),
        (merged.get_output_embeddings(), loaded.get_output_embeddings()),
    ):
        start, end = table.weight[72:]
        mean = table.weight[:72].double().mean(0).float()
        assert not torch.equal(start, end)
        assert not torch.allclose(start, mean, atol=1e-4)
        assert not torch.allclose(end, mean, atol=1e-4)
        assert torch.equal(other.weight, table.weight)


def test_an_adapted_output_layer_trains_its_new_rows(tmp_path: Path) -> None:
    options = LoraOptions(r=2, target_modules=["q_proj", "lm_head"])
    module = CausalLM(folder_of(tmp_path, tied=False), lora=options)
    module.special_tokens = ("<|im_start|>",)
    module.configure_model()
    assert not any("lm_head.token_adapter" in name for name in module.trained)
    assert any("lm_head.lora_A" in name for name in module.trained)


@pytest.mark.parametrize(("lora", "named"), [(None, "lm_head"), (LoraOptions(r=2), "base_model.model.lm_head")])
def test_frozen_rows_of_new_tokens_are_refused(lora: LoraOptions | None, named: str, tmp_path: Path) -> None:
    module = CausalLM(folder_of(tmp_path, tied=False), lora=lora, freeze=["lm_head"])
    module.special_tokens = ("<|im_start|>", "<|im_end|>")
    with pytest.raises(
        ConfigError, match=rf"^model\.freeze covers {named}, whose rows for <\|im_start\|> and <\|im_end"
    ):
        module.configure_model()
    # Without new rows it is the user's own business.
    CausalLM(str(tmp_path), lora=lora, freeze=["lm_head"]).configure_model()


@pytest.mark.parametrize("lora", [None, LoraOptions(r=2)])
def test_a_padding_token_beyond_the_table_gets_a_row(
    lora: LoraOptions | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = folder_of(tmp_path / "base", tied=True, pad_token="[PAD]")
    line = "the tokenizer has 1 token for which the embedding table of 72 rows has no row ([PAD])"
    assert lacking_rows(base, load_tokenizer(base)) == line
    module = CausalLM(base, lora=lora)
    with caplog.at_level("INFO"):
        module.configure_model()
    assert f"{line}: rows are added" in caplog.messages
    assert module.has_new_tokens
    module.model(input_ids=torch.tensor([[0, 58, pad_id(module.tokenizer())]]))
    save_model(module, tmp_path / "out")
    written = load_model(str(tmp_path / "out"))
    assert len(written.model.get_input_embeddings().weight) == 73
    assert generate_answers(written.model, written.tokenizer, ["hello", "hello now"], max_new_tokens=2)


def test_a_line_names_three_tokens_and_says_that_there_are_more(tmp_path: Path) -> None:
    names = names_from(tokenizer(), 60)
    assert len(names) == 12
    assert rows_line(names, 60).endswith(
        f"12 tokens for which the embedding table of 60 rows has no row ({', '.join(names[:3])}, ...)"
    )
    assert lacking_rows(str(tmp_path), tokenizer()) is None
