"""Training samples of every source and format: a conversation, or a text with a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Conversation", "Labelled", "Message", "Role", "Sample"]

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Author of the message.
        content: Its text.
        context: Input of an instruction, as in Alpaca; templates without a place for it put it below the content. Empty
            if there is none.
    """

    role: Role
    content: str
    context: str = ""


@dataclass(frozen=True)
class Conversation:
    """Messages in order, with the loss on those of the assistant.

    A plain text for language modelling is a single message of the assistant.

    >>> Conversation.exchange("Add.", "3", context="1 and 2").answer
    '3'
    >>> Conversation.exchange("Add.", "").prompt.messages
    (Message(role='user', content='Add.', context=''),)
    """

    messages: tuple[Message, ...]

    @classmethod
    def exchange(cls, prompt: str, answer: str, *, context: str = "", system: str = "") -> Conversation:
        """Return a conversation of one prompt and one answer."""
        start = (Message("system", system),) if system else ()
        return cls((*start, Message("user", prompt, context), Message("assistant", answer)))

    @property
    def prompt(self) -> Conversation:
        """The conversation without a last message of the assistant: the input of generation."""
        is_answered = bool(self.messages) and self.messages[-1].role == "assistant"
        return Conversation(self.messages[:-1]) if is_answered else self

    @property
    def answer(self) -> str:
        """The last message if it is the assistant's, otherwise an empty text."""
        return self.messages[-1].content if self.messages and self.messages[-1].role == "assistant" else ""


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
