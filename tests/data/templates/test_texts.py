"""Wording of the templates, letter by letter, and what they do with unusual conversations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.templates.bundled import BUNDLED, BundledTemplate
from lightning_neft.data.templates.template import Exchange, Template
from lightning_neft.data.tokenization import encode
from lightning_neft.errors import DataError
from words import talk, tokenizer

FAMILIES = tuple(map(BundledTemplate, BUNDLED))
CHATS = FAMILIES[:-1]


def whole(template: Template, conversation: Conversation) -> str:
    """The text of a conversation, with <end> for the tokenizer's end token."""
    return "".join(
        exchange.prompt + exchange.answer + ("<end>" if exchange.end is None else exchange.end)
        for exchange in template.exchanges(conversation)
    )


def test_alpaca() -> None:
    conversation = Conversation(
        (
            Message("user", "Name {it}.", context="A {red} fruit."),
            Message("assistant", "Apple"),
            Message("user", "Another?"),
            Message("assistant", "Cherry"),
        )
    )
    assert whole(BundledTemplate("alpaca"), conversation) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "Name {it}.\n"
        "\n"
        "### Input:\n"
        "A {red} fruit.\n"
        "\n"
        "### Response:Apple<end>\n"
        "\n"
        "### Instruction:\n"
        "Another?\n"
        "\n"
        "### Response:Cherry<end>"
    )


def test_alpaca_without_an_input() -> None:
    assert whole(BundledTemplate("alpaca"), talk("Name a fruit.", "Apple")) == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "Name a fruit.\n"
        "\n"
        "### Response:Apple<end>"
    )


def test_vicuna_as_fastchat_prints_it() -> None:
    assert whole(BundledTemplate("vicuna"), talk("Hello!", "Hi!", "How are you?", "Fine.")) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. "
        "USER: Hello! ASSISTANT: Hi!<end>USER: How are you? ASSISTANT: Fine.<end>"
    )


def test_guanaco() -> None:
    assert whole(BundledTemplate("guanaco"), talk("Hello!", "Hi!", "And you?", "Fine.")) == (
        "### Human: Hello!### Assistant: Hi!<end>### Human: And you?### Assistant: Fine.<end>"
    )


def test_chatml() -> None:
    assert whole(BundledTemplate("chatml"), talk("Hello!", "Hi!", "And you?", "Fine.", system="Be kind.")) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHello!<|im_end|>\n"
        "<|im_start|>assistant\nHi!<|im_end|>\n"
        "<|im_start|>user\nAnd you?<|im_end|>\n"
        "<|im_start|>assistant\nFine.<|im_end|>"
    )


def test_later_system_messages_stand_where_they_are_said() -> None:
    conversation = Conversation(
        (
            Message("user", "Hello!"),
            Message("assistant", "Hi!"),
            Message("system", "Be brief."),
            Message("user", "And you?"),
            Message("assistant", "Fine."),
        )
    )
    last = {template.name: template.exchanges(conversation)[-1].prompt for template in FAMILIES}
    assert last == {
        "alpaca": "\n\nBe brief.\n\n### Instruction:\nAnd you?\n\n### Response:",
        "vicuna": "Be brief. USER: And you? ASSISTANT:",
        "guanaco": "Be brief.\n### Human: And you?### Assistant:",
        "chatml": (
            "\n<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAnd you?<|im_end|>\n<|im_start|>assistant\n"
        ),
        "plain": "Be brief.\n\nAnd you?",
    }


def test_two_messages_of_the_user_are_one_turn() -> None:
    conversation = Conversation((Message("user", "A"), Message("user", "B"), Message("assistant", "C")))
    prompts = {template.name: [e.prompt for e in template.exchanges(conversation)] for template in FAMILIES[1:]}
    assert prompts["vicuna"][0].endswith("questions. USER: A USER: B ASSISTANT:")
    assert prompts["guanaco"] == ["### Human: A### Human: B### Assistant:"]
    assert prompts["plain"] == ["A\n\nB"]
    assert (
        BundledTemplate("alpaca")
        .exchanges(conversation)[0]
        .prompt.endswith("request.\n\n### Instruction:\nA\n\n### Instruction:\nB\n\n### Response:")
    )


def test_two_answers_in_a_row_are_two_turns() -> None:
    conversation = Conversation((Message("user", "A"), Message("assistant", "B"), Message("assistant", "C")))
    assert {template.name: template.exchanges(conversation)[1].prompt for template in FAMILIES} == {
        "alpaca": "\n\n### Response:",
        "vicuna": "ASSISTANT:",
        "guanaco": "### Assistant:",
        "chatml": "\n<|im_start|>assistant\n",
        "plain": "",
    }


@pytest.mark.parametrize("template", FAMILIES, ids=lambda template: template.name)
def test_the_end_of_a_conversation_without_an_answer_is_left_out(template: Template) -> None:
    assert template.exchanges(talk("Hello!", "Hi!", "And you?")) == template.exchanges(talk("Hello!", "Hi!"))
    assert template.exchanges(talk("Hello!")) == []
    assert template.exchanges(Conversation(())) == []


@pytest.mark.parametrize("template", CHATS, ids=lambda template: template.name)
def test_a_greeting_before_the_first_question_is_dropped(template: Template) -> None:
    greeted = Conversation((Message("assistant", "Welcome!"), *talk("hello", "bye").messages))
    assert template.exchanges(greeted) == template.exchanges(talk("hello", "bye"))
    assert encode([greeted], tokenizer(), template, max_length=100).untrained == 1


@pytest.mark.parametrize("template", CHATS, ids=lambda template: template.name)
def test_a_conversation_without_a_question_is_refused(template: Template, snapshot: Callable[[str], None]) -> None:
    with pytest.raises(DataError) as error:
        template.exchanges(Conversation((Message("assistant", "Once upon a time there was a king\nwho had a son."),)))
    snapshot(str(error.value))


@pytest.mark.parametrize("template", CHATS, ids=lambda template: template.name)
def test_generation_without_a_question_is_refused(template: Template) -> None:
    for messages in ((), (Message("system", "Be kind."),), (Message("assistant", "Once."),)):
        with pytest.raises(DataError, match="has no user message"):
            template.prompt(Conversation(messages))


def test_plain_takes_a_text_as_it_is() -> None:
    text = Conversation((Message("assistant", "Once."),))
    assert BundledTemplate("plain").exchanges(text) == [Exchange("", "Once.")]
    assert BundledTemplate("plain").prompt(text) == ([], "")


@pytest.mark.parametrize("template", FAMILIES, ids=lambda template: template.name)
def test_an_empty_answer_is_read_but_not_trained(template: Template) -> None:
    exchanges = template.exchanges(talk("A", " \n", "B", "C"))
    assert [exchange.trained for exchange in exchanges] == [False, True]


@pytest.mark.parametrize("template", FAMILIES, ids=lambda template: template.name)
def test_content_gives_back_what_an_answer_says(template: Template) -> None:
    (exchange,) = template.exchanges(talk("Hello!", "Hi! You?"))
    assert template.content(exchange.answer) == "Hi! You?"
    # Tokenizers that put a space before each text lose it in decoding.
    assert template.content("Hi! You?") == "Hi! You?"


@pytest.mark.parametrize("template", CHATS, ids=lambda template: template.name)
def test_an_answer_stops_at_its_trained_end_alone(template: Template) -> None:
    first, _ = template.exchanges(talk("A", "B", "C", "D"))
    assert template.stop == (() if first.end is None else (first.end,))
