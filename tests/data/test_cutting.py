"""Long conversations in pieces of whole exchanges."""

from __future__ import annotations

import itertools

import pytest

from lightning_neft.data.conversation import Conversation, Message, ToolCall
from lightning_neft.data.cutting import cut_conversations, split_long
from lightning_neft.data.templates.bundled import BundledTemplate
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.template import Template
from lightning_neft.data.tokenization import encode
from lightning_neft.hub.tokenizer import load_tokenizer
from words import talk, tokenizer


def said(conversation: Conversation) -> str:
    return " ".join(message.content for message in conversation.messages)


HERE = ["here"]
TOOLS = '[{"type": "function", "function": {"name": "add"}}]'
FOUR = talk("a", "A", "b", "B", "c", "C", "d", "D", system="S")


@pytest.mark.parametrize(
    ("first", "later", "max_length", "pieces"),
    [
        ([5, 5, 5, 5], [3, 3, 3, 3], 14, ["S a A b B c C d D"]),
        ([5, 5, 5, 5], [3, 3, 3, 3], 13, ["S a A b B c C", "S d D"]),
        ([5, 5, 5, 5], [3, 3, 3, 3], 8, ["S a A b B", "S c C d D"]),
        ([5, 5, 5, 5], [3, 3, 3, 3], 7, ["S a A", "S b B", "S c C", "S d D"]),
        # An exchange that is too long stands alone; FastChat loses the last one behind it.
        ([5, 9, 5, 5], [3, 7, 3, 3], 8, ["S a A", "S b B", "S c C d D"]),
        ([5, 5, 5, 9], [3, 3, 3, 7], 8, ["S a A b B", "S c C", "S d D"]),
    ],
)
def test_pieces_are_as_long_as_they_may_be(
    first: list[int], later: list[int], max_length: int, pieces: list[str]
) -> None:
    assert [said(piece) for piece in split_long(FOUR, first, later, max_length)] == pieces


def test_turns_outside_of_exchanges_are_dropped() -> None:
    conversation = Conversation((Message("system", "S"), Message("assistant", "G"), *talk("a", "A", "b").messages))
    assert [said(piece) for piece in split_long(conversation, [1], [1], 9)] == ["S a A"]


def test_a_text_without_questions_is_one_piece() -> None:
    assert split_long(Conversation((Message("assistant", "A"),)), [5], [5], 3) == [
        Conversation((Message("assistant", "A"),))
    ]


def test_conversations_that_fit_are_not_touched() -> None:
    # <s> Say hello </s>, Say now </s>: seven tokens, with a question at the end that is not answered
    conversation = talk("Say", "hello", "Say", "now", "Say")
    assert cut_conversations([conversation], tokenizer(), BundledTemplate("plain"), 7, HERE) == ([conversation], [0])
    cut = cut_conversations([conversation], tokenizer(), BundledTemplate("plain"), 6, HERE)
    assert cut == ([talk("Say", "hello"), talk("Say", "now")], [0, 0])


def test_pieces_name_the_conversation_that_they_are_from() -> None:
    conversations = [talk("Say", "hello"), talk("Say", "hello", "Say", "now"), talk("Say"), talk("Say", "bye")] * 400
    here = HERE * len(conversations)
    pieces, origins = cut_conversations(conversations, tokenizer(), BundledTemplate("plain"), 4, here)
    assert len(pieces) == len(origins) == 2000
    assert origins == [4 * block + index for block in range(400) for index in (0, 1, 1, 2, 3)]
    assert pieces[2] == talk("Say", "now")


THINKING = (
    "{% for m in messages %}{{ m['role'] + '>' }}{% if m['role'] == 'assistant' and loop.last %}{{ '!' }}{% endif %}"
    "{{ m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant>' }}{% endif %}"
)


@pytest.mark.parametrize("template", ["vicuna", "plain", "tokenizer"])
@pytest.mark.parametrize("max_length", [60, 100, 200])
def test_pieces_are_no_longer_than_asked_and_lose_nothing(template: str, max_length: int) -> None:
    tiny = load_tokenizer("tiny")
    tiny.chat_template = THINKING
    words: Template = ChatTemplate(tiny) if template == "tokenizer" else BundledTemplate(template)
    turns = [f"turn {number} of this " + "long " * (number % 7) for number in range(40)]
    conversation = talk(*turns, system="Be kind.")
    pieces, _ = cut_conversations([conversation], tiny, words, max_length, HERE)
    answers = [message.content for piece in pieces for message in piece.messages if message.role != "system"]
    assert answers == turns
    assert all(piece.messages[0] == Message("system", "Be kind.") for piece in pieces)
    lengths = [len(sample.input_ids) for sample in encode(pieces, tiny, words, max_length=10_000).samples]
    assert max(lengths) <= max_length
    # No two neighbours would have fitted together.
    if template != "tokenizer":
        joined = [Conversation((*a.messages, *b.messages[1:])) for a, b in itertools.pairwise(pieces)]
        for a, b in zip(pieces, joined, strict=False):
            next_exchange = Conversation(b.messages[: len(a.messages) + 2])
            (sample,) = encode([next_exchange], tiny, words, max_length=10_000).samples
            assert len(sample.input_ids) > max_length


def test_a_call_its_result_and_the_answer_stay_together() -> None:
    call = Message("assistant", "A", tool_calls=(ToolCall("add", "{}"),))
    steps = (Message("user", "a"), call, Message("tool", "3"), Message("assistant", "B"))
    conversation = Conversation((*steps, *talk("b", "C").messages), TOOLS)
    pieces = split_long(conversation, [9, 5], [7, 3], 9)
    assert [said(piece) for piece in pieces] == ["a A 3 B", "b C"]
    assert [piece.tools for piece in pieces] == [TOOLS, TOOLS]


def test_long_conversations_with_tools_are_cut_within_the_length() -> None:
    words = load_tokenizer("tiny")
    call = Message("assistant", "", tool_calls=(ToolCall("add", "{}"),))
    steps = (Message("user", "a"), call, Message("tool", "3"), Message("assistant", "B"))
    conversation = Conversation((*steps, *steps, *talk("b", "C").messages), TOOLS)
    template = BundledTemplate("vicuna")
    whole = len(encode([conversation], words, template, max_length=10_000).samples[0].input_ids)
    pieces, origins = cut_conversations([conversation], words, template, whole - 1, HERE)
    assert [said(piece) for piece in pieces] == ["a  3 B a  3 B", "b C"]
    assert origins == [0, 0]
    encoding = encode(pieces, words, template, max_length=whole - 1)
    assert (encoding.truncated, encoding.dropped, encoding.untrained) == (0, {}, 0)
