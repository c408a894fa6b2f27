"""Tools, calls and results in their various spellings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Message, ToolCall
from lightning_neft.data.formats.chat import MessagesFormat, ShareGPTFormat
from lightning_neft.data.formats.format import Format
from lightning_neft.data.formats.tools import NULLS_DROPPED
from lightning_neft.errors import DataError

FUNCTION = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"name": "add", "arguments": {"a": 1, "b": "ü"}}
READ = ToolCall("add", '{"a": 1, "b": "ü"}')


def parsed(kind: type[Format], record: dict[str, Any]) -> tuple[Conversation, Counter[str]]:
    notices: Counter[str] = Counter()
    sample = kind().parse(record, "here", notices)
    assert isinstance(sample, Conversation)
    return sample, notices


@pytest.mark.parametrize(
    "tools",
    [[TOOL], [FUNCTION], json.dumps([TOOL]), json.dumps([FUNCTION]), [json.dumps(TOOL)], [json.dumps(FUNCTION)]],
)
def test_tools_are_read_in_one_form(tools: Any) -> None:
    sample, notices = parsed(MessagesFormat, {"messages": [{"role": "user", "content": "q"}], "tools": tools})
    assert json.loads(sample.tools) == [TOOL]
    assert not notices


@pytest.mark.parametrize("tools", [None, "", " ", "[]", [], "null", [None]])
def test_no_tools_are_no_tools(tools: Any) -> None:
    sample, _ = parsed(MessagesFormat, {"messages": [{"role": "user", "content": "q"}], "tools": tools})
    assert sample.tools == ""


OPENAI = [
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": CALL}]},
    {"role": "tool", "content": "3", "tool_call_id": "1"},
    {"role": "assistant", "content": "3."},
]


def with_call(**call: Any) -> list[dict[str, Any]]:
    return [OPENAI[0], {"role": "assistant", "content": None, **call}, *OPENAI[2:]]


@pytest.mark.parametrize(
    ("kind", "turns", "identity"),
    [
        (MessagesFormat, OPENAI, "1"),
        (
            MessagesFormat,
            with_call(tool_calls=[{"id": "1", "function": {**CALL, "arguments": json.dumps(CALL["arguments"])}}]),
            "1",
        ),
        (MessagesFormat, with_call(tool_calls=json.dumps([CALL])), ""),
        (MessagesFormat, with_call(function_call=CALL), ""),
        (
            ShareGPTFormat,
            [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "3"},
                {"from": "gpt", "value": "3."},
            ],
            "",
        ),
    ],
)
def test_calls_are_read_in_one_form(kind: type[Format], turns: list[dict[str, Any]], identity: str) -> None:
    sample, notices = parsed(kind, {"conversations": turns})
    given = "1" if kind is MessagesFormat else ""
    assert sample.messages == (
        Message("user", "q"),
        Message("assistant", "", tool_calls=(ToolCall(READ.name, READ.arguments, identity),)),
        Message("tool", "3", name="add", tool_call_id=given),
        Message("assistant", "3."),
    )
    assert not notices


def test_results_are_named_by_the_id_of_their_call() -> None:
    calls = [{"id": str(number), "function": {"name": f"f{number}"}} for number in (1, 2)]
    results = [{"role": "tool", "content": "r", "tool_call_id": identity} for identity in ("2", "1")]
    sample, _ = parsed(MessagesFormat, {"messages": [*with_call(tool_calls=calls)[:2], *results]})
    assert [message.name for message in sample.messages[2:]] == ["f2", "f1"]


def test_nulls_of_parquet_are_dropped_and_noticed() -> None:
    call = {"id": "1", "type": None, "function": {"name": "add", "arguments": {"a": 1, "other": None}}}
    tools = [{"type": "function", "function": {**FUNCTION, "strict": None}}]
    sample, notices = parsed(MessagesFormat, {"messages": with_call(tool_calls=[call]), "tools": tools})
    assert sample.messages[1].tool_calls[0].arguments == '{"a": 1}'
    assert json.loads(sample.tools) == [TOOL]
    assert notices == {NULLS_DROPPED: 1}


def test_nulls_of_json_text_are_kept() -> None:
    call = {"function": {"name": "add", "arguments": '{"a": null}'}}
    sample, notices = parsed(MessagesFormat, {"messages": with_call(tool_calls=[call])})
    assert sample.messages[1].tool_calls[0].arguments == '{"a": null}'
    assert not notices


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"tools": "[{"}, ["'tools'", "JSON"]),
        ({"tools": {"name": "add"}}, ["'tools'"]),
        ({"tools": [{"type": "web_search"}]}, ["tool 1", "web_search"]),
        ({"messages": with_call(tool_calls=[{"function": {"arguments": {}}}])}, ["turn 2", "arguments"]),
        ({"messages": with_call(tool_calls=["add(1)"])}, ["turn 2", "JSON"]),
        ({"messages": with_call(tool_calls=[{"name": "add", "arguments": [1]}])}, ["turn 2", "'add'", "'arguments'"]),
        ({"messages": with_call(tool_calls=[{"name": "add", "arguments": "x"}])}, ["turn 2", "'add'", "JSON"]),
        ({"messages": [{"role": "user", "content": "q", "tool_calls": [CALL]}]}, ["turn 1", "'user'"]),
        ({"messages": [{"role": "tool_call", "content": " "}]}, ["turn 1"]),
        ({"messages": with_call(tool_calls=[{"name": "add", "arguments": {"a": "\ud83d"}}])}, ["turn 2", "'add'"]),
    ],
)
def test_a_broken_tool_is_named_with_its_place(
    record: dict[str, Any], named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(DataError) as caught:
        MessagesFormat().parse({"messages": OPENAI, **record}, "here")
    snapshot(text := str(caught.value))
    assert all(part in text for part in ("here", *named))
