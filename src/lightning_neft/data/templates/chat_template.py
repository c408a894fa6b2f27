"""A chat template of transformers, the tokenizer's own or a file, split into exchanges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_neft.common.limits import beyond_limits
from lightning_neft.data.control_tokens import ControlTokens
from lightning_neft.data.conversation import Conversation, Message, ToolCall
from lightning_neft.data.templates.chat_messages import OPENAI, Form, chat_messages, chat_tools, form_of
from lightning_neft.data.templates.template import (
    Exchange,
    Template,
    before_answer,
    begins,
    is_trained,
    without_user,
)
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "check_ends", "render"]

_OWN = "the tokenizer's chat template"
_PROBE = "ANSWER"
# Rendered first: the shapes of conversations that templates distinguish.
_TURN = (Message("user", "?"), Message("assistant", _PROBE))
_CALL = Message("assistant", "", tool_calls=(ToolCall(_PROBE, "{}"),))
_PROBES = (_TURN[:1], _TURN, (Message("system", "!"), *_TURN, *_TURN[:1]), (_TURN[0], _CALL, Message("tool", "!")))
# Bases of the recipes whose published chat template takes tools and was compared with our rendering. Phi-4-mini's reads
# them from the system message instead.
_WITH_TOOLS = ("qwen3-0.6b", "qwen3-8b", "qwen3.5-0.8b", "qwen3.5-4b", "gpt-oss-20b")
# Far more than any template adds to the messages.
_MOST_ADDED = 1_000_000
_MOST_PER_CHARACTER = 100


class ChatTemplate(Template):
    """The tokenizer's own chat template, rendered with `apply_chat_template`.

    An answer is the text that the template adds to the prompt that it renders for generation. Some templates render an
    answer differently when another turn follows, such as those that omit earlier reasoning. Such an answer is not
    trained: it does not occur in the text as the model would have generated it.

    Tools, calls and results are given to the template in the form that it reads, reasoning in the key that it reads
    (see `Form`); without such a key reasoning begins the answer, between `<think>` tags.

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
        self._form = form_of(lambda messages, tools, form: render(tokenizer, messages, False, tools, form))
        question = Conversation(_TURN[:1])
        # Some templates open the reasoning in the prompt, so that an answer without it cannot follow.
        thoughts = ("", _PROBE) if self._form.reasoning else ("",)
        for thought in thoughts:
            answered = Conversation((_TURN[0], Message("assistant", _PROBE, reasoning=thought)))
            try:
                prompt, text = self._render(question, open_prompt=True), self._render(answered)
            except DataError as error:
                raise ConfigError(str(error)) from error
            if text.startswith(prompt) and _PROBE in text[len(prompt) :]:
                break
        else:
            raise ConfigError(
                f"{self._what} renders a question differently for training and for generation; choose another "
                "template, such as chatml or vicuna"
            )
        lead, _, self._tail = text[len(prompt) :].rpartition(_PROBE)
        self.lead = "" if thought else lead
        # What follows an answer, and the part of it that ends the answer; calls may have another one.
        self._tails = [(self._tail, self._end_of_turn() or None)]
        if (tail := self._tail_of_call()) is not None:
            self._tails.append((tail, tail.rstrip()))
        ends = dict.fromkeys(end.strip() for _, end in self._tails if end)
        self.stop = tuple(end for end in ends if end != tokenizer.eos_token)

    def exchanges(self, conversation: Conversation) -> list[Exchange]:
        """Return the exchanges to train on, in their order."""
        messages = conversation.messages
        while messages and messages[-1].role != "assistant":
            messages = messages[:-1]
        conversation = conversation.of(messages)
        if not messages:
            return []
        if all(message.role != "user" for message in messages):
            raise DataError(without_user(self.name, conversation))
        earlier, start, prompt = self._walk(conversation.of(messages[:-1]))
        text = self._render(conversation)
        if not text.startswith(prompt):
            raise DataError(
                f"{self._what} renders the conversation that begins {begins(conversation)} differently for training "
                "and for generation; choose another template"
            )
        return [*earlier, self._exchange(prompt[start:], text[len(prompt) :], messages[-1])]

    def prompt(self, conversation: Conversation) -> tuple[list[Exchange], str]:
        """Return the earlier exchanges, and the prompt of the next answer."""
        asked = conversation.of(before_answer(conversation))
        if all(message.role != "user" for message in asked.messages):
            raise DataError(without_user(self.name, conversation))
        earlier, start, prompt = self._walk(asked)
        return earlier, prompt[start:]

    def identity(self) -> str:
        """Return the text of the chat template."""
        return f"{ChatTemplate.name}: {self._tokenizer.get_chat_template()}"

    def _walk(self, conversation: Conversation) -> tuple[list[Exchange], int, str]:
        """Return the earlier exchanges, their length in the prompt of the next answer, and that prompt.

        An answer that the prompt contains in another form is a part of the prompt of the next exchange.
        """
        whole = self._render(conversation, open_prompt=True)
        earlier: list[Exchange] = []
        done = ""
        for position, message in enumerate(conversation.messages):
            if message.role != "assistant":
                continue
            prompt = self._render(conversation.of(conversation.messages[:position]), open_prompt=True)
            text = self._render(conversation.of(conversation.messages[: position + 1]))
            if prompt.startswith(done) and whole.startswith(prompt) and text.startswith(prompt):
                exchange = self._exchange(prompt[len(done) :], text[len(prompt) :], message)
                until = prompt + exchange.answer + (exchange.end or "")
                if whole.startswith(until):
                    done = until
                    earlier.append(exchange)
        return earlier, len(done), whole

    def _exchange(self, prompt: str, rendered: str, message: Message) -> Exchange:
        for tail, end in self._tails:
            if rendered.endswith(tail):
                return Exchange(prompt, rendered[: len(rendered) - len(tail)], end, is_trained(message))
        # Its end is unknown: all of it is the answer, and nothing follows.
        return Exchange(prompt, rendered, "", is_trained(message))

    def _end_of_turn(self) -> str:
        """Return what ends an answer, also where another turn follows.

        Some templates put the end token behind the last turn alone, after the token that ends each turn, such as
        Phi-3's. White space after the end begins the next prompt: the model stops before it.
        """
        try:
            followed = self._render(Conversation((*_TURN, _TURN[0])), open_prompt=True).rpartition(_PROBE)[2]
        except DataError:
            return self._tail.rstrip()
        # The tail as a whole, or up to one of its control tokens.
        ends = [self._tail, *(self._tail[:end] for end, _ in reversed(self._control_tokens(self._tail)))]
        return next((end for end in ends if followed.startswith(end)), self._tail).rstrip()

    def _tail_of_call(self) -> str | None:
        """Return what follows a call where it ends with another control token than an answer, as in gpt-oss."""
        if not self._form.has_tools:
            return None
        prompt = self._render(Conversation(_TURN[:1]), open_prompt=True)
        call = self._render(Conversation((_TURN[0], _CALL)))[len(prompt) :]
        control = self._control_tokens(call)
        if call.endswith(self._tail) or not control or control[-1][0] != len(call.rstrip()):
            return None
        end, name = control[-1]
        return call[end - len(name) :]

    def _control_tokens(self, text: str) -> list[tuple[int, str]]:
        return ControlTokens.of(self._tokenizer).places(text)

    def _render(self, conversation: Conversation, open_prompt: bool = False) -> str:
        uses_tools = any(message.role == "tool" or message.tool_calls for message in conversation.messages)
        if (conversation.tools or uses_tools) and not self._form.has_tools:
            raise DataError(
                f"{self._what} renders no tools, which the conversation that begins {begins(conversation)} has; choose "
                "the template chatml, which renders them as text, or a base whose own template does: of the recipes' "
                f"bases {', '.join(_WITH_TOOLS)}"
            )
        try:
            return render(self._tokenizer, conversation.messages, open_prompt, conversation.tools, self._form)
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


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    open_prompt: bool,
    tools: str = "",
    form: Form = OPENAI,
) -> str:
    """Return the text that a tokenizer's chat template renders.

    Args:
        tokenizer: The tokenizer.
        messages: The messages.
        open_prompt: Whether an answer is to follow.
        tools: Tools as JSON text; empty without tools.
        form: What the template reads.

    Raises:
        ValueError: If the text is far longer than the messages, or contains half of a surrogate pair. The template
            itself may raise anything.
    """
    given, described = chat_messages(messages, form), chat_tools(tools)
    text = str(tokenizer.apply_chat_template(given, tools=described, tokenize=False, add_generation_prompt=open_prompt))
    if len(text) > _MOST_ADDED + _MOST_PER_CHARACTER * len(json.dumps([given, described])):
        raise ValueError(f"it renders {len(text)} characters")
    text.encode()
    return text
