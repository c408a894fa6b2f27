"""Bring the turns of a conversation into the order that templates need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lightning_neft.data.conversation import Conversation, Message

__all__ = ["FIRST_ANSWERS_NOTHING", "JOINED", "in_turn"]

FIRST_ANSWERS_NOTHING = "what the assistant says before the first message of the user is left out"
JOINED = "consecutive messages of one role are joined, with a line break between them"


def in_turn(messages: Iterable[Message], noticed: set[str]) -> Conversation:
    r"""Return a conversation in which user and assistant take turns, the user first.

    What the assistant says before the first message of the user is left out, as FastChat does: there is nothing that
    it answers. Consecutive messages of one role are joined by a line break. Blank system messages are left out, others
    stay where they are.

    Args:
        messages: The messages in their order.
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
