"""One turn of chat data as a message: its role, text, reasoning and tool calls, and whether it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lightning_neft.data.conversation import Message, Role
from lightning_neft.data.formats.format import checked_text, ignored_key, shown
from lightning_neft.data.formats.tools import calls_in_text, tool_calls
from lightning_neft.errors import DataError

__all__ = ["OTHERS_NOT_TRAINED", "UNTRAINED", "messages_of"]

UNTRAINED = "answers with weight 0, train false or loss false are not trained"

OTHERS_NOT_TRAINED = "messages other than the assistant's are marked to be trained; only answers are"

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "claude", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("observation", "tool", "function", "function_response", "tool_response"), "tool"),
}
# Turns of the assistant whose text is a call.
_CALLS = ("function_call", "tool_call")
# Whether there is a loss on a message, as in OpenAI and Together, axolotl, and ms-swift.
_FLAGS = ("weight", "train", "loss")
# DeepSeek and Qwen, OpenRouter and Together, gpt-oss.
_REASONING = ("reasoning_content", "reasoning", "thinking")


def messages_of(turns: list[Any], column: str, where: str, noticed: set[str]) -> Iterator[Message]:
    """Yield the message of each turn.

    Args:
        turns: Objects with `from` and `value` or with `role` and `content`, or texts of user and assistant in turn.
        column: Their column, for the names of keys that are not read.
        where: Names the record in errors.
        noticed: Gets a text for what is changed, ignored or not trained.

    Raises:
        DataError: If one is something else, with its number.
    """
    for number, turn in enumerate(turns, start=1):
        if isinstance(turn, str):
            yield Message("assistant" if number % 2 == 0 else "user", checked_text(turn, f"turn {number}", where))
        elif isinstance(turn, dict):
            found = _Turn(turn, number, where)
            yield _message(found, noticed)
            noticed.update(ignored_key(f"{column}.{key}") for key in found.left)
        else:
            raise DataError(f"{where}: turn {number} must be an object or text, got {shown(turn)}")


class _Turn:
    """A turn whose keys are taken one by one, so that what is left is known.

    A key whose value is null counts as missing: Parquet fills up all keys.
    """

    def __init__(self, turn: Mapping[str, Any], number: int, where: str) -> None:
        self.left = {str(key): value for key, value in turn.items() if value is not None}
        self.keys = [*map(str, turn)]
        self.number, self.where = number, where

    def take(self, key: str) -> Any:
        return self.left.pop(key, None)

    def error(self, text: str) -> DataError:
        return DataError(f"{self.where}: {text}")


def _message(turn: _Turn, noticed: set[str]) -> Message:
    speaker, key = ("from", "value") if "from" in turn.keys else ("role", "content")
    given = turn.take(speaker)
    name = str(given).strip().lower()
    calls = _calls(turn, noticed)
    if speaker not in turn.keys or not (key in turn.keys or calls):
        raise turn.error(
            f"turn {turn.number} needs 'from' and 'value', or 'role' and 'content' (keys found: "
            f"{', '.join(turn.keys) or 'none'})"
        )
    if name in _CALLS:
        calls += calls_in_text(turn.take(key), turn.number, turn.where, noticed)
    elif name not in _ROLES:
        raise turn.error(
            f"turn {turn.number} is from {shown(given)}; the known roles are {', '.join((*_ROLES, *_CALLS))}"
        )
    role = _ROLES.get(name, "assistant")
    if calls and role != "assistant":
        raise turn.error(
            f"turn {turn.number} has tool calls but is from {shown(given)}; only the assistant calls tools"
        )
    # Null beside calls is OpenAI's form.
    content = turn.take(key)
    text = "" if content is None and (calls or role == "tool") else _text(content, key, turn)
    return Message(
        role,
        text,
        reasoning=_reasoning(turn) if role == "assistant" else "",
        tool_calls=calls,
        name=_named(turn, "name") if role == "tool" else "",
        tool_call_id=_named(turn, "tool_call_id") if role == "tool" else "",
        trained=_trained(turn, role, noticed),
    )


def _calls(turn: _Turn, noticed: set[str]) -> Any:
    # `function_call` is OpenAI's former key, for a single call.
    given = turn.take("tool_calls") or turn.take("function_call")
    return tool_calls(given, turn.number, turn.where, noticed) if given else ()


def _text(value: Any, key: str, turn: _Turn) -> str:
    """Return the text of a content: text, or parts that are text, which are joined as they are."""
    what = f"{key!r} of turn {turn.number}"
    if not isinstance(value, list):
        return checked_text(value, what, turn.where)
    parts = []
    for number, part in enumerate(value, start=1):
        text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part
        if not isinstance(text, str):
            got = f"a part of type {part.get('type')}" if isinstance(part, dict) else shown(part)
            raise turn.error(
                f"part {number} of {what} must be text, got {got}; models are trained on text alone, so remove such "
                "parts or the sample"
            )
        parts.append(checked_text(text, f"part {number} of {what}", turn.where))
    return "".join(parts)


def _reasoning(turn: _Turn) -> str:
    found = {key: value for key in _REASONING if (value := turn.take(key)) not in (None, "")}
    if len(set(map(str, found.values()))) > 1:
        raise turn.error(f"turn {turn.number} has different texts in {' and '.join(found)}; keep one of them")
    key, value = next(iter(found.items()), ("", ""))
    return checked_text(value, f"{key!r} of turn {turn.number}", turn.where)


def _named(turn: _Turn, key: str) -> str:
    return checked_text(turn.take(key) or "", f"{key!r} of turn {turn.number}", turn.where)


def _trained(turn: _Turn, role: Role, noticed: set[str]) -> bool:
    flags = {key: value for key in _FLAGS if (value := turn.take(key)) is not None}
    for key, value in flags.items():
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise turn.error(f"{key!r} of turn {turn.number} must be 0, 1, true or false, got {shown(value)}")
    if "train_detail" in turn.left:
        raise turn.error(
            f"'train_detail' of turn {turn.number}: a message is trained as a whole or not at all; give train true or "
            "false"
        )
    trained = all(flags.values())
    if role != "assistant":
        if any(flags.values()):
            noticed.add(OTHERS_NOT_TRAINED)
        return True
    if not trained:
        noticed.add(UNTRAINED)
    return trained
