"""Conversations as lists of turns: roles, systems, tools, and turns that are broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.formats.chat import (
    FIRST_ANSWERS_NOTHING,
    JOINED,
    MessagesFormat,
    ShareGPTFormat,
)
from lightning_neft.data.formats.format import Format, ignored_key
from lightning_neft.errors import DataError


def said(*turns: tuple[str, str]) -> Conversation:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return Conversation(tuple(Message(roles[role], content) for role, content in turns))  # type: ignore[arg-type]


def sharegpt(*turns: tuple[str, Any], **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": value} for role, value in turns], **columns}


def messages(*turns: tuple[str, Any], **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **columns}


# A call as the text of a turn, and as it is rendered.
CALL = '{"arguments": {}, "name": "c"}'
CALL_TEXT = '<tool_call>\n{"name": "c", "arguments": {}}\n</tool_call>'


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
        (sharegpt(("human", "q"), ("gpt", "a"), tools=""), "u:q a:a", []),
        (
            sharegpt(("human", "q"), ("function_call", CALL), ("observation", "{o}"), ("gpt", "a")),
            f"u:q a:{CALL_TEXT} t:{{o}} a:a",
            [],
        ),
        (
            sharegpt(("human", "q"), ("gpt", "a"), ("tool_call", CALL), ("tool_response", "{o}"), ("gpt", "b")),
            f"u:q a:a\n{CALL_TEXT} t:{{o}} a:b",
            [],
        ),
        (
            sharegpt(("human", "q"), ("function_call", CALL), ("function_call", CALL), ("tool", "1"), ("tool", "2")),
            f"u:q a:{CALL_TEXT}\n{CALL_TEXT} t:1 t:2",
            [],
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
        (
            {"conversations": ["q", "a", "r", "b"], "source": "wikihow"},
            "u:q a:a u:r a:b",
            [ignored_key("source")],
        ),
        ({"conversations": ["q"]}, "u:q", []),
        ({"conversation": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "u:q a:a", []),
        ({"conversations": [{"from": "human", "value": "q", "weight": 0}]}, "u:q", []),
    ],
)
def test_sharegpt_becomes_messages_in_turn(record: dict[str, Any], expected: str, noticed: list[str]) -> None:
    _check(ShareGPTFormat(), record, expected, noticed)


CALLS = [{"id": "1", "type": "function", "function": {"name": "ä", "arguments": '{"x": [1, null]}'}}]
CALLS_TEXT = '<tool_call>\n{"name": "ä", "arguments": {"x": [1, null]}}\n</tool_call>'


@pytest.mark.parametrize(
    ("record", "expected", "noticed"),
    [
        (messages(("user", "q"), ("assistant", "a")), "u:q a:a", []),
        (messages(("system", "s"), ("user", "q"), ("assistant", "a")), "s:s u:q a:a", []),
        (messages(("developer", "s"), ("user", "q"), ("assistant", "a")), "s:s u:q a:a", []),
        (messages(("user", "q"), ("assistant", "a"), ("system", "s"), ("user", "r")), "u:q a:a s:s u:r", []),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": None, "tool_calls": CALLS},
                    {"role": "tool", "content": "o", "tool_call_id": "1"},
                    {"role": "assistant", "content": "a", "tool_calls": None},
                ]
            },
            f"u:q a:{CALLS_TEXT} t:o a:a",
            [],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "I", "tool_calls": CALLS},
                ]
            },
            f"u:q a:I\n{CALLS_TEXT}",
            [],
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
    assert " ".join(f"{message.role[0]}:{message.text}" for message in sample.messages) == expected
    assert notices == Counter(noticed)
    # A tool answers as a user does.
    roles = [
        "assistant" if message.role == "assistant" else "user"
        for message in sample.messages
        if message.role != "system"
    ]
    assert all(role == ("user", "assistant")[number % 2] for number, (role, _) in enumerate(groupby(roles)))


def test_the_context_of_a_message_is_not_made_up() -> None:
    sample = ShareGPTFormat().parse(sharegpt(("human", "q"), ("gpt", "a")), "here")
    assert sample == said(("u", "q"), ("a", "a"))


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (
            sharegpt(("human", "q"), ("narrator", "a")),
            ["'narrator'"],
        ),
        (sharegpt(("human", 3)), ["'value'"]),
        (sharegpt(("human", None)), ["'value'"]),
        (
            sharegpt(("human", "\ud83d")),
            ["'value'"],
        ),
        (
            {"conversations": ["q", "\ud83d"]},
            [],
        ),
        (
            {"conversations": [{"value": "q"}]},
            ["'from'", "'value'", "'role'"],
        ),
        (
            {"conversations": [{"from": "human", "content": "q"}]},
            ["'from'", "'value'", "'role'"],
        ),
        ({"conversations": [{}]}, ["'from'", "'value'", "'role'"]),
        ({"conversations": [["human", "q"]]}, ["'human'", "'q'"]),
        ({"conversations": [{"role": "assistant", "content": [3]}]}, ["'content'", "part 1", "turn 1"]),
        ({"conversations": "q"}, ["'conversations'", "'q'"]),
        ({"conversations": None}, ["'conversations'"]),
        (sharegpt(("human", "q"), system=3), ["'system'"]),
        (
            {"id": 1},
            ["'conversations'", "data.columns"],
        ),
    ],
)
def test_a_broken_conversation_is_named_with_its_turn(
    record: dict[str, Any], named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(DataError) as caught:
        ShareGPTFormat().parse(record, "here")
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)


def test_a_long_value_is_shown_by_its_beginning(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(DataError) as caught:
        MessagesFormat().parse(messages(("user", {"part": "part" * 50})), "here")
    snapshot(text := str(caught.value))
    assert all(part in text for part in ("'content'", "'part'"))
