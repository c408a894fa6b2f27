"""Tools and their calls in chat data, as objects or as JSON text, in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lightning_neft.data.conversation import Message, ToolCall
from lightning_neft.data.formats.format import checked_text, shown
from lightning_neft.errors import DataError

__all__ = ["NULLS_DROPPED", "calls_in_text", "named_results", "tool_calls", "tools_text"]

NULLS_DROPPED = (
    "null values of tools or arguments are dropped, because Parquet stores missing keys as null; store them as JSON "
    "text to keep them"
)


def tools_text(value: Any, where: str, noticed: set[str]) -> str:
    """Return a record's tools as JSON text, empty if there are none.

    A tool is an object of OpenAI's form, `{"type": "function", "function": {...}}`, or the function alone, which is put
    into that form. The list and each tool may be JSON text.

    Args:
        value: The value of the column.
        where: Names the record in errors.
        noticed: Gets `NULLS_DROPPED` where it applies.

    Raises:
        DataError: If it is something else.

    Example:
        >>> tools_text('[{"name": "now"}]', "here", set())
        '[{"type": "function", "function": {"name": "now"}}]'
    """
    tools = _from_json(value, "'tools'", where)
    if not tools:
        return ""
    if not isinstance(tools, list):
        raise DataError(f"{where}: 'tools' must be a list of tools, or such a list as JSON text, got {shown(value)}")
    result = []
    for number, tool in enumerate(tools, start=1):
        what = f"tool {number}"
        found = _from_json(tool, what, where)
        if found is None:  # a row that Parquet has filled up
            continue
        if isinstance(found, dict) and "name" in found and "function" not in found:
            found = {"type": "function", "function": {key: part for key, part in found.items() if key != "type"}}
        if not (isinstance(found, dict) and isinstance(found.get("function"), dict) and found["function"].get("name")):
            raise DataError(
                f'{where}: {what} must be an object such as {{"type": "function", "function": {{"name": ..., '
                f'"description": ..., "parameters": ...}}}}, got {shown(tool)}'
            )
        result.append(found if isinstance(value, str) or isinstance(tool, str) else _without_nulls(found, noticed))
    return checked_text(_json(result), "'tools'", where) if result else ""


def tool_calls(value: Any, turn: int, where: str, noticed: set[str]) -> tuple[ToolCall, ...]:
    """Return the calls of OpenAI's `tool_calls`, or of the text of a turn that is a call.

    Args:
        value: A list of objects with `function`, or of the functions alone; or one of them; or JSON text of these.
        turn: Number of the turn, for errors.
        where: Names the record in errors.
        noticed: Gets `NULLS_DROPPED` where it applies.

    Raises:
        DataError: If a call has no name, or its arguments are not an object.

    Example:
        >>> tool_calls('{"name": "add", "arguments": {"a": 1}}', 2, "here", set())
        (ToolCall(name='add', arguments='{"a": 1}', id=''),)
    """
    calls = _from_json(value, f"the tool call of turn {turn}", where)
    return tuple(
        _call(_from_json(call, f"the tool call of turn {turn}", where), turn, where, noticed)
        for call in (calls if isinstance(calls, list) else [calls])
        if call is not None
    )


def calls_in_text(value: Any, turn: int, where: str, noticed: set[str]) -> tuple[ToolCall, ...]:
    """Return the calls of a turn that is a call, such as ShareGPT's `function_call`.

    Raises:
        DataError: If there is none.
    """
    calls = tool_calls(value, turn, where, noticed)
    if not calls:
        raise DataError(f"{where}: turn {turn} is a tool call without a call")
    return calls


def named_results(messages: Iterable[Message]) -> list[Message]:
    """Return messages in which results of tools have the name of their tool, found by the id of the call or its place.

    >>> calls = Message("assistant", "", tool_calls=(ToolCall("a", "{}"), ToolCall("b", "{}")))
    >>> [message.name for message in named_results([calls, Message("tool", "1"), Message("tool", "2")])]
    ['', 'a', 'b']
    """
    result: list[Message] = []
    open_calls: list[ToolCall] = []
    for message in messages:
        if message.role == "assistant":
            open_calls = [*message.tool_calls]
        elif message.role == "tool" and open_calls:
            call = next((one for one in open_calls if one.id and one.id == message.tool_call_id), open_calls[0])
            open_calls.remove(call)
            message = replace(message, name=message.name or call.name, tool_call_id=message.tool_call_id or call.id)
        result.append(message)
    return result


def _call(call: Any, turn: int, where: str, noticed: set[str]) -> ToolCall:
    described = call.get("function") or call if isinstance(call, dict) else {}
    function: dict[str, Any] = described if isinstance(described, dict) else {}
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(
            f'{where}: the tool call of turn {turn} must be an object such as {{"name": ..., "arguments": ...}}, got '
            f"{shown(call)}"
        )
    what = f"'arguments' of {name!r} in turn {turn}"
    given = function.get("arguments")
    arguments = {} if given is None or given == "" else _from_json(given, what, where)
    if not isinstance(arguments, dict):
        raise DataError(f"{where}: {what} must be an object, or one as JSON text, got {shown(given)}")
    if not isinstance(given, str):
        arguments = _without_nulls(arguments, noticed)
    identity = call.get("id") or ""
    return ToolCall(
        checked_text(name, f"the name of a tool in turn {turn}", where),
        checked_text(_json(arguments), what, where),
        checked_text(identity, f"the id of a tool call in turn {turn}", where),
    )


def _from_json(value: Any, what: str, where: str) -> Any:
    """Return what a JSON text holds; other values, and an empty text as None."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {what} is not JSON ({error}): {shown(value)}") from error


def _without_nulls(value: Any, noticed: set[str]) -> Any:
    if isinstance(value, dict):
        if any(part is None for part in value.values()):
            noticed.add(NULLS_DROPPED)
        return {key: _without_nulls(part, noticed) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part, noticed) for part in value]
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
