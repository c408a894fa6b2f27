"""Chat formats: turns of `from` and `value` (ShareGPT), or of `role` and `content` (OpenAI)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from typing_extensions import override

from lightning_neft.data.conversation import Conversation, Message, Role
from lightning_neft.data.formats.format import Column, Exchanges, Format, checked_text, shown
from lightning_neft.errors import DataError

__all__ = [
    "FIRST_ANSWERS_NOTHING",
    "JOINED",
    "TOOLS_IGNORED",
    "TOOL_CALLS",
    "MessagesFormat",
    "ShareGPTFormat",
    "in_turn",
]


FIRST_ANSWERS_NOTHING = "messages of the assistant before the first user message are dropped"

JOINED = "consecutive messages of one role are joined, with a line break between them"


def in_turn(messages: Iterable[Message], noticed: set[str]) -> Conversation:
    r"""Return a conversation in which user and assistant take turns, the user first.

    Messages of the assistant before the first user message are dropped, as in FastChat, because they answer nothing.
    Consecutive messages of one role are joined by a line break. Blank system messages are dropped, others keep their
    place.

    Args:
        messages: The messages in order.
        noticed: Gets `FIRST_ANSWERS_NOTHING` and `JOINED` where they apply.

    Example:
        >>> said = [("assistant", "Hi!"), ("user", "Add."), ("user", "1, 2"), ("assistant", "3")]
        >>> [message.content for message in in_turn((Message(*turn) for turn in said), set()).messages]
        ['Add.\n1, 2', '3']
    """
    result: list[Message] = []
    asked = False
    for message in messages:
        asked = asked or message.role == "user"
        if message.role == "system" and not message.content.strip():
            continue
        if message.role == "assistant" and not asked:
            noticed.add(FIRST_ANSWERS_NOTHING)
        elif result and result[-1].role == message.role:
            noticed.add(JOINED)
            result[-1] = replace(result[-1], content=f"{result[-1].content}\n{message.content}")
        else:
            result.append(message)
    return Conversation(tuple(result))


TOOLS_IGNORED = "the column tools is ignored; tool descriptions are not part of the prompt"

TOOL_CALLS = "tool calls are read as answers of the assistant, tool results as messages of the user"

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "claude", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
# The assistant writes the call; the result comes from outside and is not trained.
_TOOL_ROLES: dict[str, Role] = {
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function", "function_response", "tool_response"), "user"),
}


class _ChatFormat(Format):
    """Reads both forms of a turn, whichever of the two formats was chosen."""

    @override
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        if self.value(record, "tools"):
            noticed.add(TOOLS_IGNORED)
        system = Message("system", self.text(record, "system", where, may_lack=True))
        turns = self.value(record, self.columns[0].name)
        if not isinstance(turns, list):
            raise DataError(
                f"{where}: {self.key(record, self.columns[0])!r} must be a list of turns, got {shown(turns)}"
            )
        return in_turn([system, *_messages(turns, where, noticed)], noticed)

    def _turns(self, record: Mapping[str, Any]) -> list[Any] | None:
        turns = self.value(record, self.columns[0].name)
        return turns if isinstance(turns, list) else None


class ShareGPTFormat(_ChatFormat):
    """Turns of `from` and `value`, or, as in LIMA, alternating texts of user and assistant.

    A `system` column precedes the turns. The column `tools` is ignored. A `function_call` is an answer of the
    assistant, an `observation` a user message.
    """

    name = "sharegpt"
    template = "vicuna"
    columns = (
        Column("conversations", ("conversation",)),
        Column("system", ("system_prompt",), required=False),
        Column("tools", required=False),
    )

    @override
    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether there are turns of `from` and `value`, or texts."""
        turns = self._turns(record)
        if not turns:
            return turns is not None
        return isinstance(turns[0], str) or (isinstance(turns[0], dict) and "from" in turns[0])

    @override
    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return turns of `from` and `value`."""
        turns = [
            {"from": speaker, "value": said}
            for exchange in exchanges
            for speaker, said in zip(("human", "gpt"), exchange, strict=True)
        ]
        return {"conversations": turns}


class MessagesFormat(_ChatFormat):
    """Turns of `role` and `content`, as in OpenAI's chat API."""

    name = "messages"
    template = "tokenizer"
    columns = (
        Column("messages", ("conversations", "conversation")),
        Column("system", ("system_prompt",), required=False),
        Column("tools", required=False),
    )

    @override
    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether there are turns of `role` and `content`."""
        turns = self._turns(record)
        if not turns:
            return turns is not None and self.key(record, self.columns[0]) == "messages"
        return isinstance(turns[0], dict) and "role" in turns[0]

    @override
    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return turns of `role` and `content`."""
        turns = [
            {"role": role, "content": said}
            for exchange in exchanges
            for role, said in zip(("user", "assistant"), exchange, strict=True)
        ]
        return {"messages": turns}


def _messages(turns: list[Any], where: str, noticed: set[str]) -> Iterator[Message]:
    for number, turn in enumerate(turns, start=1):
        if isinstance(turn, str):
            yield Message("assistant" if number % 2 == 0 else "user", checked_text(turn, f"turn {number}", where))
            continue
        if not isinstance(turn, dict):
            raise DataError(f"{where}: turn {number} must be an object or text, got {shown(turn)}")
        said_by, content = ("from", "value") if "from" in turn else ("role", "content")
        if said_by not in turn or not (content in turn or turn.get("tool_calls")):
            keys = ", ".join(map(str, turn)) or "none"
            raise DataError(
                f"{where}: turn {number} needs 'from' and 'value', or 'role' and 'content' (keys found: {keys})"
            )
        name = str(turn[said_by]).strip().lower()
        value, calls = turn.get(content), turn.get("tool_calls")
        if calls:
            noticed.add(TOOL_CALLS)
            written = json.dumps(calls, ensure_ascii=False, default=str)
            value = f"{value}\n{written}" if value and isinstance(value, str) else value or written
        if name in _TOOL_ROLES:
            noticed.add(TOOL_CALLS)
        elif name not in _ROLES:
            known = ", ".join((*_ROLES, *_TOOL_ROLES))
            raise DataError(f"{where}: turn {number} is from {shown(turn[said_by])}; the known roles are {known}")
        yield Message({**_ROLES, **_TOOL_ROLES}[name], checked_text(value, f"{content!r} of turn {number}", where))
