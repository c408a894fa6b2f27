"""Conversations as lists of turns: roles, systems, tools, and turns that are broken."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.formats.chat import (
    FIRST_ANSWERS_NOTHING,
    JOINED,
    TOOL_CALLS,
    TOOLS_IGNORED,
    MessagesFormat,
    ShareGPTFormat,
)
from lightning_neft.data.formats.format import Format
from lightning_neft.errors import DataError


def said(*turns: tuple[str, str]) -> Conversation:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return Conversation(tuple(Message(roles[role], content) for role, content in turns))  # type: ignore[arg-type]


def sharegpt(*turns: tuple[str, Any], **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": value} for role, value in turns], **columns}


def messages(*turns: tuple[str, Any], **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **columns}


@pytest.mark.parametrize(
    ("record", "expected", "noticed"),
    [
        (sharegpt(("human", "q"), ("gpt", "a"), ("human", "r"), ("gpt", "b")), "u:q a:a u:r a:b", []),
        (sharegpt(("User", "q"), ("ChatGPT", "a")), "u:q a:a", []),
        (sharegpt(("prompter", "q"), ("bard", "a"), ("user", "r"), ("bing", "b")), "u:q a:a u:r a:b", []),
        (sharegpt(("system", "s"), ("human", "q"), ("gpt", "a")), "s:s u:q a:a", []),
        (sharegpt(("human", "q"), ("gpt", "a"), system="s"), "s:s u:q a:a", []),
        (sharegpt(("human", "q"), ("gpt", "a"), system_prompt="s"), "s:s u:q a:a", []),
        (sharegpt(("human", "q"), ("gpt", "a"), system=None), "u:q a:a", []),
        (sharegpt(("system", " "), ("human", "q"), ("gpt", "a"), system=""), "u:q a:a", []),
        (sharegpt(("system", "t"), ("human", "q"), ("gpt", "a"), system="s"), "s:s\nt u:q a:a", [JOINED]),
        (sharegpt(("human", "q"), ("gpt", "a"), tools="[{}]"), "u:q a:a", [TOOLS_IGNORED]),
        (sharegpt(("human", "q"), ("gpt", "a"), tools=""), "u:q a:a", []),
        (
            sharegpt(("human", "q"), ("function_call", "{c}"), ("observation", "{o}"), ("gpt", "a")),
            "u:q a:{c} u:{o} a:a",
            [TOOL_CALLS],
        ),
        (
            sharegpt(("human", "q"), ("gpt", "a"), ("function_call", "{c}"), ("observation", "{o}"), ("gpt", "b")),
            "u:q a:a\n{c} u:{o} a:b",
            [TOOL_CALLS, JOINED],
        ),
        (sharegpt(("human", "q"), ("human", "r"), ("gpt", "a")), "u:q\nr a:a", [JOINED]),
        (
            sharegpt(("gpt", "hello"), ("gpt", "there"), ("human", "q"), ("gpt", "a")),
            "u:q a:a",
            [FIRST_ANSWERS_NOTHING],
        ),
        (
            sharegpt(("system", "s"), ("gpt", "hello"), ("human", "q"), ("gpt", "a")),
            "s:s u:q a:a",
            [FIRST_ANSWERS_NOTHING],
        ),
        (sharegpt(("human", "q"), ("gpt", "a"), ("human", "r")), "u:q a:a u:r", []),
        (sharegpt(("gpt", "a")), "", [FIRST_ANSWERS_NOTHING]),
        (sharegpt(("human", "q"), ("gpt", "")), "u:q a:", []),
        (sharegpt(), "", []),
        ({"conversations": ["q", "a", "r", "b"], "source": "wikihow"}, "u:q a:a u:r a:b", []),
        ({"conversations": ["q"]}, "u:q", []),
        ({"conversation": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "u:q a:a", []),
        ({"conversations": [{"from": "human", "value": "q", "weight": 0}]}, "u:q", []),
    ],
)
def test_sharegpt_becomes_messages_in_turn(record: dict[str, Any], expected: str, noticed: list[str]) -> None:
    _check(ShareGPTFormat(), record, expected, noticed)


CALLS = [{"id": "1", "type": "function", "function": {"name": "ä", "arguments": "{}"}}]
CALLS_TEXT = '[{"id": "1", "type": "function", "function": {"name": "ä", "arguments": "{}"}}]'


@pytest.mark.parametrize(
    ("record", "expected", "noticed"),
    [
        (messages(("user", "q"), ("assistant", "a")), "u:q a:a", []),
        (messages(("system", "s"), ("user", "q"), ("assistant", "a")), "s:s u:q a:a", []),
        (messages(("developer", "s"), ("user", "q"), ("assistant", "a")), "s:s u:q a:a", []),
        (messages(("user", "q"), ("assistant", "a"), ("system", "s"), ("user", "r")), "u:q a:a s:s u:r", []),
        (messages(("user", "q"), ("assistant", "a"), tools=[{"type": "function"}]), "u:q a:a", [TOOLS_IGNORED]),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": None, "tool_calls": CALLS},
                    {"role": "tool", "content": "o", "tool_call_id": "1"},
                    {"role": "assistant", "content": "a", "tool_calls": None},
                ]
            },
            f"u:q a:{CALLS_TEXT} u:o a:a",
            [TOOL_CALLS],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "I", "tool_calls": CALLS},
                ]
            },
            f"u:q a:I\n{CALLS_TEXT}",
            [TOOL_CALLS],
        ),
    ],
)
def test_openai_messages_become_messages_in_turn(record: dict[str, Any], expected: str, noticed: list[str]) -> None:
    _check(MessagesFormat(), record, expected, noticed)


def _check(format: Format, record: dict[str, Any], expected: str, noticed: list[str]) -> None:
    notices: Counter[str] = Counter()
    sample = format.parse(record, "x.json, record 1", notices)
    assert isinstance(sample, Conversation)
    # A message a word; a blank stands in none of the contents but those of the calls.
    assert " ".join(f"{message.role[0]}:{message.content}" for message in sample.messages) == expected
    assert notices == Counter(noticed)
    roles = [message.role for message in sample.messages if message.role != "system"]
    assert all(role == ("user", "assistant")[number % 2] for number, role in enumerate(roles))


def test_the_context_of_a_message_is_not_made_up() -> None:
    sample = ShareGPTFormat().parse(sharegpt(("human", "q"), ("gpt", "a")), "here")
    assert sample == said(("u", "q"), ("a", "a"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            sharegpt(("human", "q"), ("narrator", "a")),
            "here: turn 2 is from str 'narrator'; known are human, user, prompter, gpt, assistant, chatgpt, bard, "
            "bing, claude, model, bot, system, developer, function_call, tool_call, observation, tool, function, "
            "function_response, tool_response",
        ),
        (sharegpt(("human", 3)), "here: 'value' of turn 1 must be text, got int 3"),
        (sharegpt(("human", None)), "here: 'value' of turn 1 must be text, got NoneType None"),
        (
            sharegpt(("human", "\ud83d")),
            "here: 'value' of turn 1 holds half of a surrogate pair, which is no character; repair the text",
        ),
        (
            {"conversations": ["q", "\ud83d"]},
            "here: turn 2 holds half of a surrogate pair, which is no character; repair the text",
        ),
        (
            {"conversations": [{"value": "q"}]},
            "here: turn 1 needs 'from' and 'value', or 'role' and 'content' (keys found: value)",
        ),
        (
            {"conversations": [{"from": "human", "content": "q"}]},
            "here: turn 1 needs 'from' and 'value', or 'role' and 'content' (keys found: from, content)",
        ),
        ({"conversations": [{}]}, "here: turn 1 needs 'from' and 'value', or 'role' and 'content' (keys found: none)"),
        ({"conversations": [["human", "q"]]}, "here: turn 1 must be an object or text, got list ['human', 'q']"),
        (
            {"conversations": [{"role": "assistant", "content": ["I"], "tool_calls": [{}]}]},
            "here: 'content' of turn 1 must be text, got list ['I']",
        ),
        (
            {"conversations": [{"role": "assistant", "content": None, "tool_calls": ["\ud800"]}]},
            "here: 'content' of turn 1 holds half of a surrogate pair, which is no character; repair the text",
        ),
        ({"conversations": "q"}, "here: 'conversations' must be a list of turns, got str 'q'"),
        ({"conversations": None}, "here: 'conversations' must be a list of turns, got NoneType None"),
        (sharegpt(("human", "q"), system=3), "here: 'system' must be text, got int 3"),
        (
            {"id": 1},
            "here: no 'conversations' for the format sharegpt (columns found: id); add what is missing, or map the "
            "columns that hold it with data.columns",
        ),
    ],
)
def test_a_broken_conversation_is_named_with_its_turn(record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        ShareGPTFormat().parse(record, "here")
    assert str(caught.value) == message


def test_a_long_value_is_shown_by_its_beginning() -> None:
    with pytest.raises(DataError) as caught:
        MessagesFormat().parse(messages(("user", ["part"] * 50)), "here")
    assert str(caught.value) == (
        "here: 'content' of turn 1 must be text, got list ['part', 'part', 'part', 'part', 'part', 'part', 'part', ..."
    )
