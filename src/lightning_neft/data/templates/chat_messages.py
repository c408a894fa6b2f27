"""Messages in the form of transformers' chat templates, and which of its variants a template reads.

Templates agree on `role` and `content`. They differ in the key of reasoning, in whether the arguments of a call are an
object or JSON text, in what stands for no content beside a call, and in whether calls need ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from lightning_neft.data.conversation import Message, ToolCall
from lightning_neft.data.templates.template import text_of

__all__ = ["Form", "chat_messages", "chat_tools", "form_of", "split_thought"]

_OPEN, _CLOSE = "<think>", "</think>"
_FIELDS = ("reasoning_content", "reasoning", "thinking")
# Words that templates do not contain.
_THOUGHT, _ANSWER, _TOOL, _CALLED, _KEY, _VALUE, _RESULT = (
    f"neft{word}probe" for word in ("thought", "answer", "tool", "called", "key", "value", "result")
)
_TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {"name": _TOOL, "description": "?", "parameters": {"type": "object", "properties": {}}},
        }
    ]
)


@dataclass(frozen=True)
class Form:
    """What a chat template reads besides `role` and `content`.

    Attributes:
        reasoning: Key of the reasoning; empty if it reads none, and reasoning is a part of the content.
        has_tools: Whether it renders tools, calls and results.
        arguments_as_text: Whether the arguments of a call are JSON text instead of an object.
        empty_content: The content of a call without text.
        needs_ids: Whether calls and results must have ids, of nine letters and digits as in Mistral's.
    """

    reasoning: str = ""
    has_tools: bool = False
    arguments_as_text: bool = False
    empty_content: str | None = ""
    needs_ids: bool = False


# OpenAI's form; reasoning in the key that most templates read.
OPENAI = Form(reasoning=_FIELDS[0], has_tools=True)


def chat_messages(messages: Sequence[Message], form: Form = OPENAI) -> list[dict[str, Any]]:
    r"""Return messages as `apply_chat_template` takes them.

    Args:
        messages: The messages.
        form: What the template reads.

    Example:
        >>> chat_messages([Message("assistant", "3", reasoning="1 + 2")], Form())
        [{'role': 'assistant', 'content': '<think>\n1 + 2\n</think>\n\n3'}]
    """
    ids = (f"call{number:05}" for number in range(100_000))
    # The id of each call without a result in the data, and the one that the template gets.
    open_calls: list[tuple[str, str]] = []
    result = []
    for message in messages:
        said: dict[str, Any] = {"role": message.role, "content": text_of(message)}
        if message.role == "assistant":
            thought, content = split_thought(message)
            if thought and form.reasoning:
                said |= {"content": content, form.reasoning: thought}
            elif message.reasoning:
                said["content"] = Message("assistant", message.content, reasoning=message.reasoning).text
        if message.tool_calls:
            said["content"] = said["content"] or form.empty_content
            said["tool_calls"] = [*_calls(message.tool_calls, form, ids)]
            given = (call.get("id", "") for call in said["tool_calls"])
            open_calls = [*zip((call.id for call in message.tool_calls), given, strict=True)]
        elif message.role == "tool":
            own = message.tool_call_id
            pair = next((pair for pair in open_calls if pair[0] == own), open_calls[0] if open_calls else (own, own))
            open_calls = [other for other in open_calls if other is not pair]
            said |= {key: value for key, value in (("name", message.name), ("tool_call_id", pair[1])) if value}
        result.append(said)
    return result


def chat_tools(tools: str) -> list[dict[str, Any]] | None:
    """Return the tools of a conversation, JSON text, as `apply_chat_template` takes them."""
    found: list[dict[str, Any]] | None = json.loads(tools) if tools else None
    return found


def split_thought(message: Message) -> tuple[str, str]:
    r"""Return the reasoning and the rest of the content, also where the reasoning begins the content between tags.

    >>> split_thought(Message("assistant", "<think>\n1 + 2\n</think>\n\n3"))
    ('1 + 2', '3')
    """
    start = message.content.lstrip()
    if message.reasoning or not start.startswith(_OPEN) or _CLOSE not in start:
        return message.reasoning, message.content
    thought, _, rest = start.removeprefix(_OPEN).partition(_CLOSE)
    return thought.strip("\n"), rest.lstrip("\n")


def form_of(render: Callable[[Sequence[Message], str, Form], str]) -> Form:
    """Return what a chat template reads, tried on short conversations.

    Args:
        render: Renders messages and tools (JSON text) in a form; may raise anything.
    """

    def shows(words: Sequence[str], messages: Sequence[Message], tools: str, form: Form) -> bool:
        try:
            text = render(messages, tools, form)
        except Exception:  # a template is a program; this form is not its own
            return False
        return all(word in text for word in words)

    asked, answer = Message("user", "?"), Message("assistant", _ANSWER)
    thought = (asked, replace(answer, reasoning=_THOUGHT))
    reasoning = next((key for key in _FIELDS if shows((_THOUGHT, _ANSWER), thought, "", Form(key))), "")
    call = Message("assistant", "", tool_calls=(ToolCall(_CALLED, json.dumps({_KEY: _VALUE})),))
    called = (asked, call, Message("tool", _RESULT, name=_CALLED), answer)
    words = (_TOOL, _CALLED, _KEY, _VALUE, _RESULT, _ANSWER)
    forms = (
        Form(reasoning, True, as_text, empty, ids)
        for ids, as_text, empty in product((False, True), (False, True), ("", None))
    )
    return next((form for form in forms if shows(words, called, _TOOLS, form)), Form(reasoning))


def _calls(calls: Sequence[ToolCall], form: Form, ids: Iterator[str]) -> Iterator[dict[str, Any]]:
    for call in calls:
        arguments = call.arguments if form.arguments_as_text else json.loads(call.arguments)
        own = call.id if len(call.id) == 9 and call.id.isalnum() else ""
        identity = (own or next(ids)) if form.needs_ids else call.id
        yield {
            **({"id": identity} if identity else {}),
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        }
