"""Special tokens that a template needs, and what tells tokenizers apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import processors
from transformers import ByT5Tokenizer

from lightning_neft.errors import ModelError
from lightning_neft.hub.tokenizer import add_special_tokens, leading_ids, load_tokenizer, pad_id, tokenizer_identity
from words import tokenizer

MARKS = ("<|im_start|>", "<|im_end|>")


def test_missing_special_tokens_are_added_once() -> None:
    words = tokenizer()
    assert add_special_tokens(words, MARKS) == list(MARKS)
    assert words("hello<|im_end|>now", add_special_tokens=False)["input_ids"] == [62, 73, 66]
    assert len(words) == 74
    assert add_special_tokens(words, MARKS) == []
    assert len(words) == 74


def test_tokens_that_are_there_stay_what_they_are() -> None:
    words = tokenizer()
    assert add_special_tokens(words, ["</s>", "hello"]) == []
    assert len(words) == 72


def test_special_tokens_of_before_stay_special() -> None:
    words = tokenizer()
    add_special_tokens(words, MARKS[:1])
    add_special_tokens(words, MARKS[1:])
    assert set(words.all_special_tokens) >= {"<s>", "</s>", *MARKS}
    assert words.decode([72, 62, 73], skip_special_tokens=True) == "hello"
    assert words.eos_token == "</s>"


def test_loading_adds_what_a_template_needs(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    assert len(load_tokenizer(str(tmp_path))) == 72
    assert load_tokenizer(str(tmp_path), special_tokens=MARKS).convert_tokens_to_ids(list(MARKS)) == [72, 73]


def test_a_chat_template_of_the_processor_is_read(tmp_path: Path) -> None:
    words = tokenizer()
    words.chat_template = None
    words.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).chat_template is None
    (tmp_path / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
    assert load_tokenizer(str(tmp_path)).chat_template == "{{ messages }}"
    words.chat_template = "own"
    words.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).chat_template == "own"


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    words = tokenizer()
    words.eos_token = None
    words.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no end-of-sequence token"):
        load_tokenizer(str(tmp_path))


def test_leading_ids_are_the_beginning_token_alone() -> None:
    words = tokenizer()
    assert leading_ids(words) == [0]
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    assert leading_ids(words) == []


def test_the_end_token_pads_where_there_is_no_padding_token() -> None:
    assert pad_id(tokenizer()) == 1
    assert pad_id(tokenizer(pad_token="<unk>")) == 2


def test_the_identity_does_not_depend_on_earlier_texts() -> None:
    words = tokenizer(pad_token="<unk>")
    before = tokenizer_identity(words)
    words(["hello", "hello now"], padding=True, truncation=True, max_length=2)
    assert words.backend_tokenizer.padding is not None
    assert tokenizer_identity(words) == before == tokenizer_identity(tokenizer(pad_token="<unk>"))


def test_the_identity_changes_with_whatever_changes_the_ids() -> None:
    words = [tokenizer() for _ in range(5)]
    add_special_tokens(words[1], MARKS)
    words[2].backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    words[3].eos_token = "<unk>"
    words[4].add_tokens(["hello now"])
    assert len({tokenizer_identity(tokens) for tokens in words}) == 5


def test_the_chat_template_is_no_part_of_the_identity() -> None:
    words = tokenizer()
    before = tokenizer_identity(words)
    words.chat_template = "{{ messages }}"
    assert tokenizer_identity(words) == before


def test_slow_tokenizers_have_an_identity_too() -> None:
    assert tokenizer_identity(ByT5Tokenizer()) == tokenizer_identity(ByT5Tokenizer())
    assert tokenizer_identity(ByT5Tokenizer()) != tokenizer_identity(ByT5Tokenizer(extra_ids=3))
