"""Chat formats: turns of `from` and `value` (ShareGPT), or of `role` and `content` (OpenAI)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from typing_extensions import override

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.formats.format import Column, Exchanges, Format, shown
from lightning_neft.data.formats.tools import named_results, tools_text
from lightning_neft.data.formats.turns import messages_of
from lightning_neft.errors import DataError

__all__ = [
    "FIRST_ANSWERS_NOTHING",
    "JOINED",
    "JOINED_UNTRAINED",
    "MessagesFormat",
    "ShareGPTFormat",
    "in_turn",
]


FIRST_ANSWERS_NOTHING = "messages of the assistant before the first user message are dropped"

JOINED = "consecutive messages of one role are joined, with a line break between them"

JOINED_UNTRAINED = "an answer is joined with one that is marked as untrained, and not trained either"


def in_turn(messages: Iterable[Message], noticed: set[str]) -> Conversation:
    r"""Return a conversation in which user and assistant take turns, the user first.

    Messages of the assistant before the first user message are dropped, as in FastChat, because they answer nothing.
    Consecutive messages of one role are joined by a line break, those of tools excepted: each is the result of a call.
    Tool calls of joined messages are called together. Blank system messages are dropped, others keep their place.

    Args:
        messages: The messages in order.
        noticed: Gets `FIRST_ANSWERS_NOTHING`, `JOINED` and `JOINED_UNTRAINED` where they apply.

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
        elif result and result[-1].role == message.role and message.role != "tool":
            result[-1] = _joined(result[-1], message, noticed)
        else:
            result.append(message)
    return Conversation(tuple(result))


def _joined(first: Message, second: Message, noticed: set[str]) -> Message:
    # A call directly behind a text, or another call, is what one answer of the assistant is.
    if not second.tool_calls or second.content:
        noticed.add(JOINED)
    if first.trained != second.trained:
        noticed.add(JOINED_UNTRAINED)
    return replace(
        first,
        content="\n".join(part for part in (first.content, second.content) if part),
        reasoning="\n".join(part for part in (first.reasoning, second.reasoning) if part),
        tool_calls=first.tool_calls + second.tool_calls,
        trained=first.trained and second.trained,
    )


class _ChatFormat(Format):
    """Reads both forms of a turn, whichever of the two formats was chosen."""

    @override
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        system = Message("system", self.text(record, "system", where, may_lack=True))
        column = self.key(record, self.columns[0])
        turns = self.value(record, self.columns[0].name)
        if not isinstance(turns, list):
            raise DataError(f"{where}: {column!r} must be a list of turns, got {shown(turns)}")
        said = in_turn([system, *messages_of(turns, str(column), where, noticed)], noticed)
        tools = tools_text(self.value(record, "tools"), where, noticed)
        return Conversation(tuple(named_results(said.messages)), tools)

    def _turns(self, record: Mapping[str, Any]) -> list[Any] | None:
        turns = self.value(record, self.columns[0].name)
        return turns if isinstance(turns, list) else None


class ShareGPTFormat(_ChatFormat):
    """Turns of `from` and `value`, or, as in LIMA, alternating texts of user and assistant.

    A `system` column precedes the turns. A `function_call` is a tool call of the assistant as JSON text, an
    `observation` the result of a tool.
    """

    name = "sharegpt"
    template = "vicuna"
    columns = (
        Column("conversations", ("conversation",)),
        Column("system", ("system_prompt",), required=False),
        Column("tools", ("functions",), required=False),
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
    """Turns of `role` and `content`, as in OpenAI's chat API: also with `tool_calls` and `reasoning_content`."""

    name = "messages"
    template = "tokenizer"
    columns = (
        Column("messages", ("conversations", "conversation")),
        Column("system", ("system_prompt",), required=False),
        Column("tools", ("functions",), required=False),
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
