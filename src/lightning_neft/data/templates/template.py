"""`Template`: renders a conversation as exchanges, the same ones for training and for generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from lightning_neft.data.control_tokens import without_marks
from lightning_neft.data.conversation import Conversation, Message, ToolCall

__all__ = ["Exchange", "Template", "before_answer", "begins", "is_trained", "text_of", "without_user"]


@dataclass(frozen=True)
class Exchange:
    """A prompt and its answer, as the model reads them.

    Attributes:
        prompt: Everything since the end of the previous answer.
        answer: What the model is trained to write.
        end: The text that ends the answer and is trained with it; None stands for the tokenizer's end token.
        trained: Whether there is a loss on the answer and its end. Answers that the data mark as untrained have none,
            nor have empty ones, which would teach silence.
    """

    prompt: str
    answer: str
    end: str | None = None
    trained: bool = True


class Template(ABC):
    """Renders conversations; training and generation use the same object.

    Attributes:
        name: What the user calls it.
        special_tokens: Texts that must be one token each; the tokenizer may lack them.
        stop: Texts that end an answer, besides the end token. The beginning of the next turn is not one of them: an
            answer may contain it.
        lead: Stands between the prompt and the content of an answer, and is trained as part of the answer.
        adds_bos: Whether the token that the tokenizer puts before a text precedes the first prompt. False for templates
            that render it themselves.
        is_raw: Whether names of control tokens in the data are these tokens; otherwise they are text.
        jinja: Its chat template for `export`, None where there is none.
    """

    name: str
    special_tokens: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    lead: str = ""
    adds_bos: bool = True
    is_raw: bool = False
    jinja: str | None = None

    @abstractmethod
    def exchanges(self, conversation: Conversation) -> list[Exchange]:
        """Return the exchanges to train on, in their order; none where there is no answer.

        Raises:
            DataError: If the template cannot render such a conversation.
        """

    @abstractmethod
    def prompt(self, conversation: Conversation) -> tuple[list[Exchange], str]:
        """Return what generation feeds for the next answer: the earlier exchanges, and the prompt.

        A last message of the assistant is ignored, so this is exactly what precedes the last answer in training.

        Raises:
            DataError: If the template cannot render such a conversation.
        """

    def content(self, answer: str) -> str:
        """Return the content of an answer that the model wrote, without `lead`."""
        return answer.removeprefix(self.lead)

    def identity(self) -> str:
        """Return a text that changes whenever the template renders something differently."""
        return f"{self.name}: {[self.exchanges(probe) for probe in (_PROBE, _PROBE_OF_CONTEXT, _PROBE_OF_TOOLS)]!r}"


def is_trained(message: Message) -> bool:
    """Return whether there is a loss on a message of the assistant.

    >>> is_trained(Message("assistant", " ")), is_trained(Message("assistant", "No.", trained=False))
    (False, False)
    """
    return message.trained and bool(message.content.strip() or message.reasoning.strip() or message.tool_calls)


def text_of(message: Message, context_lead: str = "\n\n") -> str:
    r"""Return the content, with the context below it.

    Example:
        >>> text_of(Message("user", "Add.", context="1 and 2"))
        'Add.\n\n1 and 2'
    """
    return f"{message.content}{context_lead}{message.context}" if message.context else message.content


def before_answer(conversation: Conversation) -> tuple[Message, ...]:
    """Return the messages without the last one, if that is the assistant's."""
    messages = conversation.messages
    return messages[:-1] if messages and messages[-1].role == "assistant" else messages


def begins(conversation: Conversation) -> str:
    """Return the first words of a conversation, for errors."""
    # System messages may all be the same.
    said = [message.content for message in conversation.messages if message.role != "system"]
    text = " ".join(without_marks(said[0] if said else "").split())
    return repr(text if len(text) <= 40 else text[:37] + "...")


def without_user(name: str, conversation: Conversation) -> str:
    """Return the error about a conversation without a user message."""
    return (
        f"the conversation that begins {begins(conversation)} has no user message, which the template {name} needs; "
        "for plain texts choose the template plain"
    )


_PROBE = Conversation(
    (
        Message("system", "\x00s"),
        Message("user", "\x00u"),
        Message("assistant", "\x00a"),
        Message("user", "\x00v", context="\x00c"),
        Message("assistant", "\x00b"),
    )
)
_PROBE_OF_CONTEXT = Conversation((Message("user", "\x00u", context="\x00c"), Message("assistant", "\x00a")))
_PROBE_OF_TOOLS = Conversation(
    (
        Message("user", "\x00u"),
        Message("assistant", "\x00a", reasoning="\x00r", tool_calls=(ToolCall("f", '{"x": 1}'),)),
        Message("tool", "\x00t"),
        Message("tool", "\x00w"),
        Message("assistant", "\x00b"),
    ),
    '[{"type": "function", "function": {"name": "f"}}]',
)
