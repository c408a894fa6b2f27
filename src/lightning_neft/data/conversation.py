"""Training samples of every source and format: a conversation, or a text with a class."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["Conversation", "Labelled", "Message", "Role", "Sample", "ToolCall", "conversation_from"]

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool by the assistant.

    Attributes:
        name: Name of the tool.
        arguments: Its arguments, an object as JSON text.
        id: Links the call to its result; empty if the data have none.
    """

    name: str
    arguments: str
    id: str = ""

    @property
    def text(self) -> str:
        """The call as JSON text.

        >>> ToolCall("add", '{"a": 1}').text
        '{"name": "add", "arguments": {"a": 1}}'
        """
        return f'{{"name": {json.dumps(self.name, ensure_ascii=False)}, "arguments": {self.arguments}}}'


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Author of the message. A message of the role `tool` is the result of a call.
        content: Its text.
        context: Input of an instruction, as in Alpaca; templates without a place for it put it below the content. Empty
            if there is none.
        reasoning: What the assistant thought before its content; empty if there is none.
        tool_calls: Calls of the assistant, after its content.
        name: Name of the tool that a result comes from; empty if unknown.
        tool_call_id: The call that a result belongs to; empty if the data have no ids.
        trained: Whether there is a loss on this message of the assistant.
    """

    role: Role
    content: str
    context: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""
    trained: bool = True

    @property
    def text(self) -> str:
        r"""The message of an assistant in the plain form, as the bundled templates render it.

        Reasoning stands between `<think>` tags as in Qwen3 and DeepSeek-R1, calls between `<tool_call>` tags as in
        Hermes 2 Pro.

        >>> Message("assistant", "3", reasoning="1 and 2", tool_calls=(ToolCall("show", "{}"),)).text
        '<think>\n1 and 2\n</think>\n\n3\n<tool_call>\n{"name": "show", "arguments": {}}\n</tool_call>'
        """
        thought = f"<think>\n{self.reasoning}\n</think>\n\n" if self.reasoning else ""
        calls = (f"<tool_call>\n{call.text}\n</tool_call>" for call in self.tool_calls)
        return thought + "\n".join([*([self.content] if self.content or not self.tool_calls else []), *calls])


@dataclass(frozen=True)
class Conversation:
    """Messages in order, with the loss on those of the assistant.

    A plain text for language modelling is a single message of the assistant.

    Attributes:
        messages: The messages.
        tools: The tools that the assistant may call, a list in OpenAI's form as JSON text; empty if there are none.

    >>> Conversation.exchange("Add.", "3", context="1 and 2").answer
    '3'
    >>> [message.role for message in Conversation.exchange("Add.", "").prompt.messages]
    ['user']
    """

    messages: tuple[Message, ...]
    tools: str = ""

    @classmethod
    def exchange(cls, prompt: str, answer: str, *, context: str = "", system: str = "") -> Conversation:
        """Return a conversation of one prompt and one answer."""
        start = (Message("system", system),) if system else ()
        return cls((*start, Message("user", prompt, context), Message("assistant", answer)))

    @property
    def prompt(self) -> Conversation:
        """The conversation without a last message of the assistant: the input of generation."""
        is_answered = bool(self.messages) and self.messages[-1].role == "assistant"
        return self.of(self.messages[:-1]) if is_answered else self

    @property
    def answer(self) -> str:
        """The text of the last message if it is the assistant's (see `Message.text`), otherwise an empty text."""
        return self.messages[-1].text if self.messages and self.messages[-1].role == "assistant" else ""

    def of(self, messages: tuple[Message, ...]) -> Conversation:
        """Return a conversation of other messages with the same tools."""
        return replace(self, messages=messages)


@dataclass(frozen=True)
class Labelled:
    """A text and its class.

    Attributes:
        text: The text.
        label: Name or number of the class, as in the source.
    """

    text: str
    label: str | int


Sample = Conversation | Labelled


def conversation_from(record: dict[str, Any]) -> Conversation:
    """Return the conversation of which `dataclasses.asdict` made this record.

    >>> from dataclasses import asdict
    >>> talk = Conversation((Message("assistant", "", tool_calls=(ToolCall("add", "{}"),)),))
    >>> conversation_from(asdict(talk)) == talk
    True
    """
    messages = (
        Message(**{**message, "tool_calls": tuple(ToolCall(**call) for call in message["tool_calls"])})
        for message in record["messages"]
    )
    return Conversation(tuple(messages), record["tools"])
