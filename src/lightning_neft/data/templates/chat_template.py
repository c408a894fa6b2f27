"""A chat template of transformers, the tokenizer's own or a file, split into exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_neft.common.limits import beyond_limits
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.templates.template import Exchange, Template, before_answer, begins, text_of, without_user
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "check_ends", "render"]

_OWN = "the tokenizer's chat template"
_PROBE = "ANSWER"
# Rendered first: the shapes of conversations that templates distinguish.
_TURN = (Message("user", "?"), Message("assistant", _PROBE))
_PROBES = (_TURN[:1], _TURN, (Message("system", "!"), *_TURN, *_TURN[:1]))
# Far more than any template adds to the messages.
_MOST_ADDED = 1_000_000
_MOST_PER_CHARACTER = 100


class ChatTemplate(Template):
    """The tokenizer's own chat template, rendered with `apply_chat_template`.

    An answer is the text that the template adds to the prompt that it renders for generation. Some templates render an
    answer differently when another turn follows, such as those that omit earlier reasoning. Then only the last answer
    is trained: the others do not occur in the text as the model would have generated them.

    Args:
        tokenizer: A tokenizer with a chat template.
        file: The file that the chat template was read from, None if it is the tokenizer's own.

    Attributes:
        of_file: The text of that file, None if there is none.

    Raises:
        ConfigError: If there is none, or it cannot render a question and its answer.
    """

    name = "tokenizer"
    # The template renders the beginning-of-sequence token itself.
    adds_bos = False

    def __init__(self, tokenizer: PreTrainedTokenizerBase, file: str | None = None) -> None:
        if not tokenizer.chat_template:
            raise ConfigError("the tokenizer has no chat template; choose another template, such as chatml or vicuna")
        self._what = _OWN if file is None else f"the template {file}"
        self.of_file: str | None = None if file is None else str(tokenizer.chat_template)
        if file is not None:
            self.name = file
        check_ends(tokenizer, self._what)
        self._tokenizer = tokenizer
        question, answered = Conversation((Message("user", "?"),)), Conversation.exchange("?", _PROBE)
        try:
            prompt, text = self._render(question, open_prompt=True), self._render(answered)
        except DataError as error:
            raise ConfigError(str(error)) from error
        if not text.startswith(prompt) or _PROBE not in text[len(prompt) :]:
            raise ConfigError(
                f"{self._what} renders a question differently for training and for generation; choose another "
                "template, such as chatml or vicuna"
            )
        self.lead, _, self._tail = text[len(prompt) :].rpartition(_PROBE)
        # White space after the end begins the next prompt: the model stops before it.
        self._end = self._tail.rstrip() or None
        self.stop = (self._end.strip(),) if self._end and self._end.strip() != tokenizer.eos_token else ()

    def exchanges(self, conversation: Conversation) -> list[Exchange]:
        """Return the exchanges to train on, in their order."""
        messages = conversation.messages
        while messages and messages[-1].role != "assistant":
            messages = messages[:-1]
        conversation = Conversation(messages)
        if not messages:
            return []
        if all(message.role != "user" for message in messages):
            raise DataError(without_user(self.name, conversation))
        earlier, start, prompt = self._walk(Conversation(messages[:-1]))
        text = self._render(conversation)
        if not text.startswith(prompt):
            raise DataError(
                f"{self._what} renders the conversation that begins {begins(conversation)} differently for training "
                "and for generation; choose another template"
            )
        return [*earlier, self._exchange(prompt[start:], text[len(prompt) :], messages[-1])]

    def prompt(self, conversation: Conversation) -> tuple[list[Exchange], str]:
        """Return the earlier exchanges, and the prompt of the next answer."""
        asked = Conversation(before_answer(conversation))
        if all(message.role != "user" for message in asked.messages):
            raise DataError(without_user(self.name, conversation))
        earlier, start, prompt = self._walk(asked)
        return earlier, prompt[start:]

    def identity(self) -> str:
        """Return the text of the chat template."""
        return f"{ChatTemplate.name}: {self._tokenizer.get_chat_template()}"

    def _walk(self, conversation: Conversation) -> tuple[list[Exchange], int, str]:
        """Return the earlier exchanges, their length in the prompt of the next answer, and that prompt."""
        whole = self._render(conversation, open_prompt=True)
        earlier: list[Exchange] = []
        done = ""
        for position, message in enumerate(conversation.messages):
            if message.role != "assistant":
                continue
            prompt = self._render(Conversation(conversation.messages[:position]), open_prompt=True)
            text = self._render(Conversation(conversation.messages[: position + 1]))
            if not (prompt.startswith(done) and text.startswith(prompt)):
                return [], 0, whole
            exchange = self._exchange(prompt[len(done) :], text[len(prompt) :], message)
            done = prompt + exchange.answer + (exchange.end or "")
            earlier.append(exchange)
        return (earlier, len(done), whole) if whole.startswith(done) else ([], 0, whole)

    def _exchange(self, prompt: str, rendered: str, message: Message) -> Exchange:
        trained = bool(message.content.strip())
        if not rendered.endswith(self._tail):
            # Its end is unknown: all of it is the answer, and nothing follows.
            return Exchange(prompt, rendered, "", trained)
        return Exchange(prompt, rendered[: len(rendered) - len(self._tail)], self._end, trained)

    def _render(self, conversation: Conversation, open_prompt: bool = False) -> str:
        try:
            return render(self._tokenizer, conversation.messages, open_prompt)
        # A template is a program and may raise anything.
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            omit = "omit the system messages, or " if any(m.role == "system" for m in conversation.messages) else ""
            raise DataError(
                f"{self._what} refuses the conversation that begins {begins(conversation)}: {reason}; {omit}choose "
                "another template, such as chatml or vicuna"
            ) from error


def check_ends(tokenizer: PreTrainedTokenizerBase, what: str = _OWN) -> None:
    """Check that a tokenizer's chat template, which is a program, ends and uses bounded memory.

    Args:
        tokenizer: The tokenizer.
        what: Name of the template in an error.

    Raises:
        ConfigError: If it exceeds a limit on short conversations. Longer ones are not tried.
    """

    def probe(messages: Sequence[Message]) -> None:
        try:
            render(tokenizer, messages, open_prompt=messages[-1].role == "user")
        except MemoryError:
            raise
        except Exception:  # raised again where its text is needed
            return

    def probe_all() -> None:
        for messages in _PROBES:
            probe(messages)

    if limit := beyond_limits(probe_all):
        raise ConfigError(
            f"{what} cannot be used: {limit} to render a question and its answer; choose another template, such as "
            "chatml or vicuna"
        )


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], open_prompt: bool) -> str:
    """Return the text that a tokenizer's chat template renders.

    Args:
        tokenizer: The tokenizer.
        messages: The messages.
        open_prompt: Whether an answer is to follow.

    Raises:
        ValueError: If the text is far longer than the messages, or contains half of a surrogate pair. The template
            itself may raise anything.
    """
    plain = [{"role": message.role, "content": text_of(message)} for message in messages]
    text = str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=open_prompt))
    if len(text) > _MOST_ADDED + _MOST_PER_CHARACTER * sum(len(message["content"]) for message in plain):
        raise ValueError(f"it renders {len(text)} characters")
    text.encode()
    return text
