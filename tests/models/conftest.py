"""A small random model with a tokenizer of whole words, in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["<s>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two layers, 29 words, weights in bfloat16, dropout in the attention."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
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


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Eleven samples with answers of 1 to 11 words."""
    records = [{"instruction": word, "output": " ".join(WORDS[3 : 4 + i])} for i, word in enumerate(WORDS[3:14])]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)
