"""Every template, and every data format with its own template, against token ids and labels written out by hand.

In each expectation the prompts are plain lists; `answer(...)` marks what is trained.
"""

from __future__ import annotations

from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Labelled, Message, Sample
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.formats.registry import format_named
from lightning_neft.data.templates.registry import TEMPLATES, default_template, template_named
from lightning_neft.data.tokenization import encode
from lightning_neft.hub.tokenizer import add_special_tokens
from words import talk, tokenizer

# "Below is an instruction that describes a task."
BELOW = [10, 11, 12, 13, 14, 15, 16, 17, 5]
# "Below is an instruction that describes a task, paired with an input that provides further context."
BELOW_WITH_INPUT = [10, 11, 12, 13, 14, 15, 16, 17, 6, 24, 25, 12, 26, 14, 27, 28, 29, 5]
# " Write a response that appropriately completes the request."
WRITE = [18, 16, 19, 14, 20, 21, 22, 23, 5]
# "\n\n### Instruction:\n", "\n\n### Input:\n", "\n\n### Response:"
INSTRUCTION, INPUT, RESPONSE = [3, 3, 7, 7, 7, 30, 4, 3], [3, 3, 7, 7, 7, 31, 4, 3], [3, 3, 7, 7, 7, 32, 4]
# "A chat between a curious user and an artificial intelligence assistant."
CHAT = [33, 34, 35, 16, 36, 37, 38, 12, 39, 40, 41, 5]
# " The assistant gives helpful, detailed, and polite answers to the user's questions."
POLITE = [42, 41, 43, 44, 6, 45, 6, 38, 46, 47, 48, 22, 37, 8, 9, 49, 5]
# "### Human:", "### Assistant:"
HUMAN, ASSISTANT = [7, 7, 7, 53, 4], [7, 7, 7, 54, 4]
# "<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n"; the two special tokens are added as 72 and 73
USER, CLOSE, OPEN = [72, 56, 3], [73, 3], [72, 57, 3]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


class answer(list):
    """Ids with a loss on them."""


def written_out(*parts: list[int]) -> tuple[list[int], list[int]]:
    ids = [number for part in parts for number in part]
    labels = [number if isinstance(part, answer) else -100 for part in parts for number in part]
    return ids, labels


HELLO_BYE = talk("hello", "bye")
TWO_TURNS = talk("hello", "bye", "now", "hello")
WITH_SYSTEM = talk("hello", "bye", system="Be kind")
WITH_CONTEXT = Conversation.exchange("hello", "bye", context="now")

ROWS: dict[str, tuple[str, Conversation, tuple[list[int], ...]]] = {
    "alpaca": (
        "alpaca",
        HELLO_BYE,
        ([0], BELOW, WRITE, INSTRUCTION, [62], RESPONSE, answer([64, 1])),
    ),
    "alpaca, with an input": (
        "alpaca",
        WITH_CONTEXT,
        ([0], BELOW_WITH_INPUT, WRITE, INSTRUCTION, [62], INPUT, [66], RESPONSE, answer([64, 1])),
    ),
    "alpaca, two turns": (
        "alpaca",
        TWO_TURNS,
        (
            *([0], BELOW, WRITE, INSTRUCTION, [62], RESPONSE, answer([64, 1])),
            *(INSTRUCTION, [66], RESPONSE, answer([62, 1])),
        ),
    ),
    "alpaca, system": (
        "alpaca",
        WITH_SYSTEM,
        ([0], [60, 61], INSTRUCTION, [62], RESPONSE, answer([64, 1])),
    ),
    "vicuna": (
        "vicuna",
        HELLO_BYE,
        # " USER:" " hello" " ASSISTANT" ":" and then " bye", whose space belongs to the answer
        ([0], CHAT, POLITE, [50, 4, 63, 51, 4], answer([65, 1])),
    ),
    "vicuna, two turns": (
        "vicuna",
        TWO_TURNS,
        # "USER" comes right after </s>, without the space that the first one has
        ([0], CHAT, POLITE, [50, 4, 63, 51, 4], answer([65, 1]), [52, 4, 67, 51, 4], answer([63, 1])),
    ),
    "vicuna, system": ("vicuna", WITH_SYSTEM, ([0], [60, 61], [50, 4, 63, 51, 4], answer([65, 1]))),
    "vicuna, context": ("vicuna", WITH_CONTEXT, ([0], CHAT, POLITE, [50, 4, 63, 3, 3, 66, 51, 4], answer([65, 1]))),
    "guanaco": ("guanaco", HELLO_BYE, ([0], HUMAN, [63], ASSISTANT, answer([65, 1]))),
    "guanaco, two turns": (
        "guanaco",
        TWO_TURNS,
        ([0], HUMAN, [63], ASSISTANT, answer([65, 1]), HUMAN, [67], ASSISTANT, answer([63, 1])),
    ),
    "guanaco, system": ("guanaco", WITH_SYSTEM, ([0], [60, 61, 3], HUMAN, [63], ASSISTANT, answer([65, 1]))),
    "chatml": ("chatml", HELLO_BYE, ([0], USER, [62], CLOSE, OPEN, answer([64, 73]))),
    "chatml, two turns": (
        "chatml",
        TWO_TURNS,
        ([0], USER, [62], CLOSE, OPEN, answer([64, 73]), [3], USER, [66], CLOSE, OPEN, answer([62, 73])),
    ),
    "chatml, system": (
        "chatml",
        WITH_SYSTEM,
        ([0], [72, 55, 3, 60, 61], CLOSE, USER, [62], CLOSE, OPEN, answer([64, 73])),
    ),
    "plain": ("plain", HELLO_BYE, ([0], [62], answer([64, 1]))),
    "plain, two turns": ("plain", TWO_TURNS, ([0], [62], answer([64, 1]), [66], answer([62, 1]))),
    "plain, system and context": (
        "plain",
        Conversation.exchange("hello", "bye", context="now", system="Be kind"),
        ([0], [60, 61, 3, 3, 62, 3, 3, 66], answer([64, 1])),
    ),
    # A text for language modelling: there is a loss on all of it, only <s> is not predicted.
    "plain, text": ("plain", Conversation((Message("assistant", "hello now"),)), ([0], answer([62, 67, 1]))),
    # "user" ":" " hello" "\n" "assistant" ":" and then " bye" </s>; the template words <s> itself
    "tokenizer": ("tokenizer", HELLO_BYE, ([0], [56, 4, 63, 3, 57, 4], answer([65, 1]))),
    "tokenizer, two turns": (
        "tokenizer",
        TWO_TURNS,
        ([0], [56, 4, 63, 3, 57, 4], answer([65, 1]), [56, 4, 67, 3, 57, 4], answer([63, 1])),
    ),
    "tokenizer, system": (
        "tokenizer",
        WITH_SYSTEM,
        ([0], [55, 4, 2, 61, 3], [56, 4, 63, 3, 57, 4], answer([65, 1])),
    ),
}


def words_with_chat_template() -> Any:
    words = tokenizer()
    words.chat_template = CHAT_TEMPLATE
    return words


@pytest.mark.parametrize("row", ROWS)
def test_ids_and_labels(row: str) -> None:
    name, conversation, expected = ROWS[row]
    words = words_with_chat_template()
    template = template_named(name, words)
    add_special_tokens(words, template.special_tokens)
    (sample,) = encode([conversation], words, template, max_length=100).samples
    assert (list(sample.input_ids), list(sample.labels)) == written_out(*expected)


@pytest.mark.parametrize("row", ROWS)
def test_prompts_of_generation_are_those_of_training(row: str) -> None:
    name, conversation, expected = ROWS[row]
    words = words_with_chat_template()
    template = template_named(name, words)
    add_special_tokens(words, template.special_tokens)
    before = [number for part in expected[:-1] for number in part]
    assert encode_prompts(words, template, [conversation]) == [before]
    # The same without the answer, which generation does not have.
    assert encode_prompts(words, template, [conversation.prompt]) == [before]


def test_all_templates_are_in_the_table() -> None:
    assert {name for name, _, _ in ROWS.values()} == set(TEMPLATES)


FORMATS: dict[str, tuple[Sample, tuple[list[int], ...]]] = {
    "alpaca": (
        Conversation.exchange("hello", "bye", context="now"),
        ([0], BELOW_WITH_INPUT, WRITE, INSTRUCTION, [62], INPUT, [66], RESPONSE, answer([64, 1])),
    ),
    "sharegpt": (
        TWO_TURNS,
        ([0], CHAT, POLITE, [50, 4, 63, 51, 4], answer([65, 1]), [52, 4, 67, 51, 4], answer([63, 1])),
    ),
    "messages": (
        TWO_TURNS,
        ([0], USER, [62], CLOSE, OPEN, answer([64, 73]), [3], USER, [66], CLOSE, OPEN, answer([62, 73])),
    ),
    "prompt_completion": (talk("hello", " bye"), ([0], [62], answer([65, 1]))),
    "text": (Conversation((Message("assistant", "hello now"),)), ([0], answer([62, 67, 1]))),
    "source_target": (talk("hello", "bye"), ([0], [62], answer([64, 1]))),
    "guanaco": (
        TWO_TURNS,
        ([0], HUMAN, [63], ASSISTANT, answer([65, 1]), HUMAN, [67], ASSISTANT, answer([63, 1])),
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_ids_and_labels_of_each_format_with_its_own_template(name: str) -> None:
    sample, expected = FORMATS[name]
    words = tokenizer()
    template = default_template(format_named(name), words)
    add_special_tokens(words, template.special_tokens)
    (encoded,) = encode([sample], words, template, max_length=100).samples
    assert (list(encoded.input_ids), list(encoded.labels)) == written_out(*expected)


def test_ids_and_label_of_a_text_with_a_label() -> None:
    words = tokenizer()
    template = default_template(format_named("text_label"), words)
    samples = [Labelled("hello now", "good")]
    encoding = encode(samples, words, template, task="sequence_classification", max_length=9, labels=["bad", "good"])
    assert [(list(s.input_ids), list(s.labels)) for s in encoding.samples] == [([0, 62, 67], [1])]
