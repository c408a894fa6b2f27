"""What a template is: it renders a conversation as exchanges, the same ones for training and for generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_neft.data.control_tokens import without_marks
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.errors import DataError

__all__ = [
    "Exchange",
    "Template",
    "TurnTemplate",
    "before_answer",
    "begins",
    "jinja_of_turns",
    "text_of",
    "without_user",
]


@dataclass(frozen=True)
class Exchange:
    """A prompt and its answer, as the model reads them.

    Attributes:
        prompt: All that the model reads since the end of the previous answer.
        answer: What it is trained to write.
        end: The text that ends the answer and is trained with it; None stands for the tokenizer's end token.
        trained: Whether there is a loss on the answer and its end: not on an empty one, which would teach silence.
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
        stop: Texts that end an answer, as they are trained, besides the end token. What a further turn begins with is
            none: an answer may hold it.
        lead: What stands between the prompt and the content of an answer. It is trained as part of the answer.
        adds_bos: Whether the token that the tokenizer puts before a text stands before the first prompt; False for
            templates that word it themselves.
        is_raw: Whether the names of control tokens in the data are these tokens; in messages they are text.
        jinja: The same as a chat template of transformers, for `export`; %BOS% stands where the first token goes. None
            where there is none.
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
        """Return what generation feeds for the next answer: the earlier exchanges, and the prompt that is open.

        The last message is omitted if it is the assistant's, so this gives exactly what training on the
        conversation puts before its last answer.

        Raises:
            DataError: If the template cannot render such a conversation.
        """

    def content(self, answer: str) -> str:
        """Return an answer that the model wrote without what the template puts before its content."""
        return answer.removeprefix(self.lead)

    def identity(self) -> str:
        """Return a text that changes as soon as the template renders anything differently."""
        return f"{self.name}: {self.exchanges(_PROBE)!r} {self.exchanges(_PROBE_OF_CONTEXT)!r}"


class TurnTemplate(Template):
    """A template that renders each turn independently of later ones.

    Consecutive messages that are not the assistant's are one turn. Messages of the assistant before the first one
    of the user are dropped, as in FastChat: they answer nothing.

    Attributes:
        end: The end of each answer.
        needs_user: Whether a conversation without a message of the user is refused.
    """

    end: str | None = None
    needs_user: bool = True

    @abstractmethod
    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return what the model reads before an answer.

        Args:
            messages: The messages since the previous answer, of system and user.
            first: Whether this is the beginning of the conversation.
        """

    def exchanges(self, conversation: Conversation) -> list[Exchange]:
        """Return the exchanges to train on; messages after the last answer are dropped."""
        result: list[Exchange] = []
        pending: list[Message] = []
        for message in conversation.messages:
            if message.role != "assistant":
                pending.append(message)
            elif result or not self.needs_user or any(other.role == "user" for other in pending):
                prompt, answer = self.word(pending, first=not result), self.lead + message.content
                result.append(Exchange(prompt, answer, self.end, trained=bool(message.content.strip())))
                pending = []
        if not result and conversation.answer:
            raise DataError(without_user(self.name, conversation))
        return result

    def prompt(self, conversation: Conversation) -> tuple[list[Exchange], str]:
        """Return the earlier exchanges, and the prompt that is open."""
        exchanges = self.exchanges(Conversation((*before_answer(conversation), Message("assistant", ""))))
        if not exchanges:
            raise DataError(without_user(self.name, conversation))
        return exchanges[:-1], exchanges[-1].prompt


# A turn is all messages since the last answer.
_JINJA_TURNS = """\
{%- macro turn(systems, users, first) -%}TURN{%- endmacro -%}
{%- set now = namespace(systems=[], users=[], first=true) -%}
%BOS%
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {%- set now.systems = now.systems + [message['content']] -%}
    {%- elif message['role'] == 'user' -%}
        {%- set now.users = now.users + [message['content']] -%}
    {%- elif now.users or not now.first -%}
        {{- turn(now.systems, now.users, now.first) + ASK + LEAD + message['content'] + eos_token -}}
        {%- set now.systems = [] -%}
        {%- set now.users = [] -%}
        {%- set now.first = false -%}
    {%- endif -%}
{%- endfor -%}
{%- if now.systems or now.users -%}{{- turn(now.systems, now.users, now.first) -}}{%- endif -%}
{%- if add_generation_prompt -%}{{- ASK -}}{%- endif -%}
"""


def jinja_of_turns(turn: str, *, ask: str, lead: str) -> str:
    """Return the Jinja form of a template whose turns are independent.

    Args:
        turn: Jinja that renders one turn from `systems`, `users` (lists of texts) and `first`.
        ask: The text that asks for the answer.
        lead: What stands between it and the answer.
    """
    return _JINJA_TURNS.replace("TURN", turn).replace("ASK", repr(ask)).replace("LEAD", repr(lead))


def text_of(message: Message) -> str:
    r"""Return the content, with the context below it for templates that have no place of its own for that.

    Example:
        >>> text_of(Message("user", "Add.", context="1 and 2"))
        'Add.\n\n1 and 2'
    """
    return f"{message.content}\n\n{message.context}" if message.context else message.content


def before_answer(conversation: Conversation) -> tuple[Message, ...]:
    """Return the messages without the last one, if that is the assistant's."""
    messages = conversation.messages
    return messages[:-1] if messages and messages[-1].role == "assistant" else messages


def begins(conversation: Conversation) -> str:
    """Return the words by which somebody who reads an error finds the conversation again."""
    text = " ".join(without_marks(next((message.content for message in conversation.messages), "")).split())
    return repr(text if len(text) <= 40 else text[:37] + "...")


def without_user(name: str, conversation: Conversation) -> str:
    """Say that a conversation has no message of the user."""
    return (
        f"the conversation that begins {begins(conversation)} has no message of the user, which the template {name} "
        "needs; the template plain takes such texts as they are"
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
