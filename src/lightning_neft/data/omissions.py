"""Check that what is trained is in the text that a template renders: templates may cut or rewrite answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_neft.data.control_tokens import without_marks
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.templates.chat_messages import split_thought
from lightning_neft.data.templates.template import Exchange
from lightning_neft.errors import DataError

__all__ = ["REASONING_OMITTED", "check_answers"]

# Remark about samples: templates such as Qwen3's omit the reasoning of earlier answers.
REASONING_OMITTED = "have reasoning in earlier answers that the template omits, in training as in generation"


def check_answers(conversation: Conversation, exchanges: Sequence[Exchange], template: str, where: str) -> bool:
    """Check that each answer appears in the rendered text, and return whether the reasoning of an earlier one does not.

    White space is not compared: many templates trim contents. Of earlier answers a template may omit the reasoning, and
    the text beside a tool call, as gpt-oss's does: that is how the model is prompted later.

    Args:
        conversation: A conversation.
        exchanges: What the template renders of it.
        template: Its name.
        where: Names the sample in the error.

    Raises:
        DataError: If an earlier answer, or a part of a trained last one, does not appear.
    """
    messages = _asked(conversation.messages)
    answers = [message for message in messages if message.role == "assistant"]
    if not exchanges or not answers:
        return False
    whole = without_marks("".join(exchange.prompt + exchange.answer for exchange in exchanges))
    is_omitted = False
    for message in answers[:-1]:
        for what, text in _parts(message):
            if _appears(text, whole):
                continue
            if what == "reasoning" or (what == "text" and message.tool_calls):
                is_omitted = True
            else:
                raise _error(what, text, "an earlier answer", template, where)
    if exchanges[-1].trained:
        last = without_marks(exchanges[-1].answer)
        for what, text in _parts(answers[-1]):
            if not _appears(text, last):
                raise _error(what, text, "the last answer", template, where)
    return is_omitted


def _asked(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages without greetings, which answer nothing and are dropped."""
    first = next((place for place, message in enumerate(messages) if message.role == "user"), 0)
    return messages[first:]


def _parts(message: Message) -> Iterator[tuple[str, str]]:
    thought, content = split_thought(message)
    yield "reasoning", thought
    yield "text", content
    for call in message.tool_calls:
        yield "tool call", call.name


def _appears(text: str, rendered: str) -> bool:
    return text in rendered or " ".join(text.split()) in " ".join(rendered.split())


def _error(what: str, text: str, answer: str, template: str, where: str) -> DataError:
    beginning = " ".join(text.split())
    beginning = beginning if len(beginning) <= 40 else beginning[:37] + "..."
    return DataError(
        f"{where}: the {what} of {answer}, which begins {beginning!r}, does not appear in the text that the "
        f"template {template} renders; choose a template that keeps it, such as chatml, or remove it from the data"
    )
