"""A tokenizer of whole words, whose ids can be written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

# Splits at spaces and keeps ":" apart, so that an answer's first word is a token of its own.
WORDS = ["<s>", "</s>", "<unk>", "Say", ":", "hello", "bye", "now", ":!"]


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    """Ids: <s> 0, </s> 1, <unk> 2, Say 3, ":" 4, hello 5, bye 6, now 7, ":!" 8. Puts <s> in front, has no padding."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture
def words_folder(words: PreTrainedTokenizerFast, tmp_path: Path) -> str:
    """The same in a folder."""
    folder = tmp_path / "words"
    words.save_pretrained(folder)
    return str(folder)
