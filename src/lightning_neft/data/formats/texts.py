"""Formats whose columns hold texts: Alpaca, prompt and completion, source and target, plain text, Guanaco, labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from lightning_neft.data.conversation import Conversation, Labelled, Message
from lightning_neft.data.formats.chat import in_turn
from lightning_neft.data.formats.format import Column, Exchanges, Format, checked_text, shown
from lightning_neft.errors import DataError

__all__ = [
    "HISTORY_IGNORED",
    "AlpacaFormat",
    "GuanacoFormat",
    "PromptCompletionFormat",
    "SourceTargetFormat",
    "TextFormat",
    "TextLabelFormat",
]

HISTORY_IGNORED = "the column history is ignored: each sample is its last exchange only"
_MARK = re.compile(r"### (Human|Assistant):")


class AlpacaFormat(Format):
    """An instruction with an optional input, and the answer, as in Alpaca and Dolly.

    The input may be missing, null or empty. A `system` column becomes a system message.
    """

    name = "alpaca"
    template = "alpaca"
    noticed_columns = ("history",)
    columns = (
        Column("instruction"),
        Column("input", ("context",), required=False),
        Column("output", ("response",)),
        Column("system", ("system_prompt",), required=False),
    )

    @override
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        if record.get("history"):
            noticed.add(HISTORY_IGNORED)
        return Conversation.exchange(
            self.text(record, "instruction", where),
            self.text(record, "output", where, may_lack=True),
            context=self.text(record, "input", where, may_lack=True),
            system=self.text(record, "system", where, may_lack=True),
        )

    @override
    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return the first question, its further lines as the input, and all answers as the output."""
        instruction, _, given = exchanges[0][0].partition("\n")
        return {"instruction": instruction, "input": given, "output": " ".join(answer for _, answer in exchanges)}


class _PairFormat(Format):
    """The first column is the prompt, the second one the answer."""

    columns: ClassVar[tuple[Column, Column]]

    @override
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        prompt, answer = self.columns
        return Conversation.exchange(
            self.text(record, prompt.name, where), self.text(record, answer.name, where, may_lack=True)
        )

    @override
    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return the first question and all answers."""
        prompt, answer = cls.columns
        return {prompt.name: exchanges[0][0], answer.name: " ".join(said for _, said in exchanges)}


class PromptCompletionFormat(_PairFormat):
    """A prompt and its completion."""

    name = "prompt_completion"
    columns = (Column("prompt"), Column("completion", ("response",)))


class SourceTargetFormat(_PairFormat):
    """The input and output of a sequence-to-sequence model, also in FLAN's columns."""

    name = "source_target"
    columns = (Column("source", ("inputs",)), Column("target", ("targets",)))


class TextFormat(Format):
    """A text for language modelling, with the loss on all of it."""

    name = "text"
    columns = (Column("text"),)

    @override
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        return Conversation((Message("assistant", self.text(record, "text", where)),))

    @override
    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return questions and answers on separate lines."""
        return {"text": "\n".join(f"{question}\n{answer}" for question, answer in exchanges)}


class GuanacoFormat(Format):
    """A text with exactly the marks `### Human:` and `### Assistant:` before the turns.

    White space around a turn belongs to the marks, not to the message. Text before the first mark is a system message.
    """

    name = "guanaco"
    template = "guanaco"
    columns = (Column("text"),)

    @override
    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether the text has a mark."""
        text = self.value(record, "text")
        return isinstance(text, str) and _MARK.search(text) is not None

    @override
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        before, *turns = _MARK.split(self.text(record, "text", where))
        if not turns:
            raise DataError(
                f"{where}: no '### Human:' and no '### Assistant:' in the text; repair it, or choose data.format text"
            )
        messages = [Message("system", before.strip())]
        for speaker, said in zip(turns[::2], turns[1::2], strict=True):
            messages.append(Message("user" if speaker == "Human" else "assistant", said.strip()))
        return in_turn(messages, noticed)

    @override
    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return a text with marks."""
        return {"text": "".join(f"### Human: {question}### Assistant: {answer}" for question, answer in exchanges)}


class TextLabelFormat(Format):
    """A text and its class, for `task: sequence_classification`: a name, an integer, or true and false for 1 and 0."""

    name = "text_label"
    columns = (Column("text", ("sentence",)), Column("label"))

    @override
    def sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Labelled:
        label = self.value(record, "label")
        what = repr(self.mapping.get("label", "label"))
        if isinstance(label, str):
            if not checked_text(label, what, where).strip():
                raise DataError(f"{where}: {what} is empty; name the class")
        elif isinstance(label, int):
            label = int(label)
        else:
            raise DataError(f"{where}: {what} must be the name or the number of a class, got {shown(label)}")
        return Labelled(self.text(record, "text", where), label)

    @override
    @classmethod
    def record_of(cls, exchanges: Exchanges, number: int) -> dict[str, Any]:
        """Return a text of one of two classes, which alternate."""
        return {**TextFormat.record_of(exchanges, number), "label": number % 2}
