"""The bundled templates: a Jinja file each, and what a chat template cannot say.

Tools, their calls and results, and reasoning have one plain form in all of them: messages.jinja, and `Message.text`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.templates.template import (
    Exchange,
    Template,
    before_answer,
    is_trained,
    text_of,
    without_user,
)
from lightning_neft.errors import DataError

if TYPE_CHECKING:
    import jinja2

__all__ = ["BUNDLED", "Bundled", "BundledTemplate"]


@dataclass(frozen=True)
class Bundled:
    """A bundled template: the file NAME.jinja in this folder, and what is not in it.

    Attributes:
        name: What the user calls it.
        about: What it renders, for the table in docs/reference/data.md.
        special_tokens: See `Template`.
        is_raw: See `Template`. Such a template also takes texts without a user message, and is never exported.
        context_lead: Stands between a message and its context.
        context_system: Replaces the default system message of the file where the first turn has a context.
    """

    name: str
    about: str
    special_tokens: tuple[str, ...] = ()
    is_raw: bool = False
    context_lead: str = "\n\n"
    context_system: str = ""


# A new template is a file and an entry here.
_ENTRIES = (
    # Beyond Alpaca: a system message replaces the leading sentence; further turns begin at their `### Instruction:`.
    Bundled(
        "alpaca",
        "The Alpaca prompt, with or without an input; the answer directly follows the colon of `### Response:`.",
        context_lead="\n\n### Input:\n",
        context_system=(
            "Below is an instruction that describes a task, paired with an input that provides further context. "
            "Write a response that appropriately completes the request."
        ),
    ),
    # As in FastChat, the space after `ASSISTANT:` belongs to the answer and is trained with it.
    Bundled(
        "vicuna",
        "Vicuna v1.1: `USER: ... ASSISTANT: ...`, one space between the turns, the end token after each answer.",
    ),
    # The original data have one end token, at the end of the conversation, and no system messages.
    Bundled("guanaco", "`### Human: ...### Assistant: ...`: one space after each colon, nothing before the marks."),
    # An answer ends with `<|im_end|>`, which is trained; the line break after it begins the next prompt.
    Bundled(
        "chatml",
        "ChatML: `<|im_start|>role`, a line break, the message, `<|im_end|>`, without a default system message.",
        special_tokens=("<|im_start|>", "<|im_end|>"),
    ),
    # Several messages before an answer are separated by a blank line. A text for language modelling has no prompt.
    Bundled(
        "plain",
        "The texts alone: the answer directly follows the prompt, the end token follows the answer.",
        is_raw=True,
    ),
)
BUNDLED = {entry.name: entry for entry in _ENTRIES}

_ANSWER = "ANSWER"
_TURN = (Message("user", "?"), Message("assistant", ""))


class BundledTemplate(Template):
    r"""A template of this package: a chat template that renders each turn independently of the other turns.

    Consecutive messages that are not the assistant's are one turn. Answers before the first user message are dropped,
    as in FastChat, because they answer nothing.

    Args:
        name: One of `BUNDLED`.

    Example:
        >>> BundledTemplate("guanaco").exchanges(Conversation.exchange("Hello!", "Hi!"))
        [Exchange(prompt='### Human: Hello!### Assistant:', answer=' Hi!', end=None, trained=True)]
        >>> (exchange,) = BundledTemplate("chatml").exchanges(Conversation.exchange("Hello!", "Hi!"))
        >>> exchange.prompt
        '<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n'
        >>> exchange.answer, exchange.end
        ('Hi!', '<|im_end|>')
    """

    def __init__(self, name: str) -> None:
        self._entry = entry = BUNDLED[name]
        folder = files(__package__)
        self._text = "".join((folder / f"{part}.jinja").read_text(encoding="utf-8") for part in ("messages", name))
        self.name, self.special_tokens, self.is_raw = name, entry.special_tokens, entry.is_raw
        self.jinja = None if entry.is_raw else self._text
        prompt = self._render(_TURN[:1], open_prompt=True)
        answered = self._render((*_TURN[:1], Message("assistant", _ANSWER)))
        self.lead, _, end = answered[len(prompt) :].rpartition(_ANSWER)
        self._end = end or None
        self.stop = (end,) if end else ()
        self._before = len(self._render(_TURN))

    def exchanges(self, conversation: Conversation) -> list[Exchange]:
        """Return the exchanges to train on; messages after the last answer are dropped."""
        result: list[Exchange] = []
        pending: list[Message] = []
        for message in conversation.messages:
            if message.role != "assistant":
                pending.append(message)
            elif result or self.is_raw or any(other.role == "user" for other in pending):
                prompt = self._prompt(pending, not result, conversation.tools)
                result.append(Exchange(prompt, self.lead + message.text, self._end, is_trained(message)))
                pending = []
        if not result and conversation.answer:
            raise DataError(without_user(self.name, conversation))
        return result

    def prompt(self, conversation: Conversation) -> tuple[list[Exchange], str]:
        """Return the earlier exchanges, and the prompt of the next answer."""
        exchanges = self.exchanges(conversation.of((*before_answer(conversation), Message("assistant", ""))))
        if not exchanges:
            raise DataError(without_user(self.name, conversation))
        return exchanges[:-1], exchanges[-1].prompt

    def _prompt(self, turn: Sequence[Message], first: bool, tools: str = "") -> str:
        """Return what the model reads before an answer, of the other messages since the previous one."""
        if not first:
            text = self._render((*_TURN, *turn), open_prompt=True)[self._before :]
            # After an answer without a question in between, there is nothing that a space would separate.
            return text if turn else text.removeprefix(" ")
        system, roles = self._entry.context_system, {message.role for message in turn}
        if system and "system" not in roles and any(message.context for message in turn):
            turn = (Message("system", system), *turn)
        return self._render(turn, tools, open_prompt=True)

    def _render(self, messages: Sequence[Message], tools: str = "", open_prompt: bool = False) -> str:
        # The tokens that begin and end a text are added as ids, see `exchange_ids`.
        return _compiled(self._text).render(
            messages=[{"role": m.role, "content": text_of(m, self._entry.context_lead)} for m in messages],
            tools=json.loads(tools) if tools else None,
            add_generation_prompt=open_prompt,
            bos_token="",
            eos_token="",
        )


@cache
def _compiled(text: str) -> jinja2.Template:
    import jinja2

    # As transformers sets it.
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    return environment.from_string(text)
