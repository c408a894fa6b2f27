"""One text per record: for language modelling, with Guanaco's marks of the speakers, or with a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from lightning_neft.data.conversation import Conversation, Labelled, Message
from lightning_neft.data.formats.chat import in_turn
from lightning_neft.data.formats.format import Column, Exchanges, Format, checked_text, shown
from lightning_neft.errors import DataError

__all__ = ["GuanacoFormat", "TextFormat", "TextLabelFormat"]

_MARK = re.compile(r"### (Human|Assistant):")


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
        """Return questions and answers in lines of their own."""
        return {"text": "\n".join(f"{question}\n{answer}" for question, answer in exchanges)}


class GuanacoFormat(Format):
    """A text with the marks `### Human:` and `### Assistant:`, spelled exactly so, before the turns.

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
                f"{where}: no '### Human:' and no '### Assistant:' in the text; repair it, or choose the format text"
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
    """A text and its class, for `task: sequence_classification`: a name, an integer, or true and false as 1 and 0."""

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
        """Return a text of one of two classes in turn."""
        return {**TextFormat.record_of(exchanges, number), "label": number % 2}
