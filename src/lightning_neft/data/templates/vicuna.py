"""The template of Vicuna v1.1, as FastChat words and trains it."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.base import TurnTemplate, text_of

__all__ = ["VicunaTemplate"]

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


class VicunaTemplate(TurnTemplate):
    """Vicuna v1.1: roles with a colon, one space between the turns, the end token after each answer.

    The prompt ends with `ASSISTANT:`; the space after it belongs to the answer and is trained with it, as in FastChat.
    A system message takes the place of the usual one.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> (exchange,) = VicunaTemplate().exchanges(Conversation.exchange("Hello!", "Hi!", system="A chat."))
        >>> exchange.prompt, exchange.answer
        ('A chat. USER: Hello! ASSISTANT:', ' Hi!')
    """

    name = "vicuna"
    lead = " "

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        parts = [message.content for message in messages if message.role == "system"]
        if first and not parts:
            parts = [_SYSTEM]
        parts += [f"USER: {text_of(message)}" for message in messages if message.role == "user"]
        return " ".join([*parts, "ASSISTANT:"])
