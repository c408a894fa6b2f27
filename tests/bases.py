"""Small random models with a tokenizer of whole words, in folders; `conftest.py` of a folder imports what it uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

__all__ = ["WORDS", "base", "classified", "encoder_decoder", "save_tokenizer", "source"]

WORDS = ["<s>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]


def save_tokenizer(folder: Path, single: str = "<s> $A", special: tuple[str, ...] = ("<s>",), **tokens: str) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(word, WORDS.index(word)) for word in special]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **tokens
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two layers, 29 words, weights in bfloat16, dropout in the attention."""
    folder = tmp_path_factory.mktemp("base")
    save_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(WORDS),
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                attention_dropout=0.2,
                initializer_range=0.3,
                bos_token_id=0,
                eos_token_id=1,
            )
        )
    # What a chat model may bring along: none of it may reach our decoding.
    model.generation_config.update(do_sample=True, temperature=3.0, repetition_penalty=1.0)
    model.to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session", params=["t5", "bart"])
def encoder_decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One layer on each side, 29 words, dropout; texts end with the end token."""
    folder = tmp_path_factory.mktemp(request.param)
    save_tokenizer(folder, "$A </s>", ("</s>",), pad_token="<unk>")
    special = {"vocab_size": len(WORDS), "pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: T5ForConditionalGeneration | BartForConditionalGeneration
        if request.param == "t5":
            t5 = T5Config(
                **special,
                d_model=32,
                d_kv=16,
                d_ff=32,
                num_layers=1,
                num_heads=2,
                decoder_start_token_id=2,
                initializer_factor=3.0,
            )
            model = T5ForConditionalGeneration(t5)
        else:
            sides = {
                f"{side}_{name}": value
                for side in ("encoder", "decoder")
                for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
            }
            bart = BartConfig(
                **special,
                **sides,
                d_model=32,
                max_position_embeddings=64,
                decoder_start_token_id=1,
                init_std=0.3,
                forced_eos_token_id=None,
            )
            model = BartForConditionalGeneration(bart)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session", params=["llama", "bert"])
def classified(request: pytest.FixtureRequest, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base for a classifier: a decoder without a padding token, or an encoder."""
    if request.param == "llama":
        return base
    folder = tmp_path_factory.mktemp("bert")
    save_tokenizer(folder, "<s> $A </s>", ("<s>", "</s>"), pad_token="<unk>")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            pad_token_id=2,
            initializer_range=0.3,
        )
        BertForMaskedLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Eleven samples with answers of 1 to 11 words."""
    records = [{"instruction": word, "output": " ".join(WORDS[3 : 4 + i])} for i, word in enumerate(WORDS[3:14])]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)
