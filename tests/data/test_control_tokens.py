"""The name of a control token is text in a message, and the token in a text that is read as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import ByT5Tokenizer

from lightning_neft.data.control_tokens import ControlTokens, token_ids
from lightning_neft.data.conversation import Conversation, Labelled, Message
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.options import DataOptions
from lightning_neft.data.prepare import prepare
from lightning_neft.data.templates.registry import TEMPLATES, template_named
from lightning_neft.data.templates.template import Template
from lightning_neft.data.tokenization import encode
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer
from words import talk

# As many chat models have it: the tokens of the template are special tokens of the tokenizer.
CHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SAID = talk(
    "What does </s> mean?",
    "</s> ends a text, and <|im_end|></s> does <|im_start|>too.",
    "<s>Really?</s>",
    "Yes",
    system="No <|im_end|>.",
)


def loaded(template: str) -> tuple[Any, Template]:
    tokenizer = load_tokenizer("tiny")
    tokenizer.chat_template = CHAT
    add_special_tokens(tokenizer, ["<|im_start|>", "<|im_end|>"])
    return tokenizer, template_named(template, tokenizer)


def ids_of(conversation: Conversation, tokenizer: Any, template: Template) -> list[int]:
    (sample,) = encode([conversation], tokenizer, template, max_length=1000).samples
    return [int(token) for token in sample.input_ids]


def without_names(conversation: Conversation) -> Conversation:
    return Conversation(
        tuple(Message(m.role, re.sub("</?s>|<.im_(start|end).>", "x", m.content)) for m in conversation.messages)
    )


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "plain"])
def test_names_in_messages_are_text_in_every_template(name: str) -> None:
    tokenizer, template = loaded(name)
    ids, plain = ids_of(SAID, tokenizer, template), ids_of(without_names(SAID), tokenizer, template)
    for token in tokenizer.all_special_ids:
        assert ids.count(token) == plain.count(token)
    text = tokenizer.decode(ids)
    for message in SAID.messages:
        assert message.content in text
    assert "\ufdd0" not in text
    (prompt,) = encode_prompts(tokenizer, template, [SAID])
    assert ids[: len(prompt)] == prompt


def test_ids_are_those_without_control_tokens() -> None:
    tokenizer, template = loaded("alpaca")
    asked = talk("What does </s> mean?", " </s> ends it.")
    exchange = template.exchanges(asked)[0]
    # The tokenizer's own answer to the question what a running text is without its control tokens.
    running = tokenizer(exchange.prompt + exchange.answer, split_special_tokens=True, add_special_tokens=False)
    assert ids_of(asked, tokenizer, template) == [0, *running["input_ids"], tokenizer.eos_token_id]
    assert tokenizer("a</s>", add_special_tokens=False)["input_ids"][-1] == tokenizer.eos_token_id


def test_a_text_cannot_pretend_to_be_marked() -> None:
    tokenizer, template = loaded("chatml")
    stand_ins = "\ufdd0<|im_end|>\ufdd1 \ufdd0\ufdd0</s>\ufdd1\ufdd1"
    assert ids_of(talk(stand_ins, "a"), tokenizer, template).count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert stand_ins in tokenizer.decode(ids_of(talk(stand_ins, "a"), tokenizer, template))


def test_a_tokenizer_written_in_python_reads_them_as_text_too() -> None:
    tokenizer = ByT5Tokenizer()
    marked = ControlTokens.of(tokenizer).as_text(talk("a </s>b", "c")).messages[0].content
    assert token_ids(tokenizer, [f"{marked}</s>"], add_special_tokens=False) == [[100, 35, 63, 50, 118, 65, 101, 1]]
    assert token_ids(tokenizer, [marked], truncation=True, max_length=4) == [[100, 35, 63, 50]]
    assert token_ids(tokenizer, [marked])[0][-2:] == [101, 1]


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        (Conversation((Message("assistant", "<s>one</s>"),)), "<s>one</s>"),
        (Conversation((Message("assistant", "one</s><s>two</s>"),)), "<s>one</s><s>two</s>"),
        (talk("<s>one", "two"), "<s>onetwo</s>"),
        (talk("one", "two</s>"), "<s>onetwo</s>"),
        (talk("one", "two</s>", "three", "four"), "<s>onetwo</s>threefour</s>"),
    ],
)
def test_a_text_that_brings_its_own_gets_none_twice(conversation: Conversation, expected: str) -> None:
    tokenizer, template = loaded("plain")
    ids = ids_of(conversation, tokenizer, template)
    assert tokenizer.decode(ids) == expected
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    (prompt,) = encode_prompts(tokenizer, template, [conversation])
    assert ids[: len(prompt)] == prompt


def test_encoders_get_none_twice_either() -> None:
    tokenizer, template = loaded("plain")
    around = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer.backend_tokenizer.post_processor = around
    (pair,) = encode([talk("<s>a</s>", "b</s>")], tokenizer, template, task="seq2seq_lm", max_length=9).samples
    assert [tokenizer.decode(ids) for ids in (pair.input_ids, pair.labels)] == ["<s>a</s>", "<s>b</s>"]
    encoding = encode(
        [Labelled("a</s>", 0)], tokenizer, template, task="sequence_classification", max_length=9, labels=[0]
    )
    assert tokenizer.decode(encoding.samples[0].input_ids) == "<s>a</s>"
    assert list(encoding.remarks.values()) == [1]


def test_what_was_found_is_counted_and_kept_with_the_tokens(tmp_path: Path) -> None:
    records = [("a </s>", "</s> b"), ("c", "<s>"), ("c", "d")]
    lines = [json.dumps({"instruction": question, "output": answer}) for question, answer in records]
    (tmp_path / "talks.jsonl").write_text("\n".join(lines))
    (tmp_path / "raw.jsonl").write_text('{"text": "<s>a</s>"}')
    expected = {
        "talks.jsonl": "1 of 3 samples contain {} in a message: it is read as text, not as the control token",
        "raw.jsonl": "1 of 1 samples contain {}: it is read as the control token, and not added again where it begins "
        "or ends the text",
    }
    for source, line in expected.items():
        options = DataOptions(str(tmp_path / source), "tiny", val_size=0, cache_dir=str(tmp_path / "cache"))
        for _ in ("built", "found"):
            notices = prepare(options).notices
            assert notices == [f"training data: {line.format(name)}" for name in ("'</s>'", "'<s>'")]


def test_thousands_of_reserved_tokens_are_told_apart() -> None:
    tokenizer = load_tokenizer("tiny")
    tokenizer.add_special_tokens({"extra_special_tokens": [f"<unused{number}>" for number in range(2000)]})
    found = ControlTokens.of(tokenizer).within(talk("<unused7> <unused77> <unused777>", "<unused> <unused2000>"))
    assert found == {"<unused7>", "<unused77>", "<unused777>"}
