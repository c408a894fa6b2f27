"""One text a record: for language modelling, with Guanaco's marks of who speaks, or with a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from lightning_neft.data.conversation import Conversation, Labelled, Message
from lightning_neft.data.formats.chat import in_turn
from lightning_neft.data.formats.format import Column, Format, checked_text, shown
from lightning_neft.errors import DataError

__all__ = ["GuanacoFormat", "TextFormat", "TextLabelFormat"]

_MARK = re.compile(r"### (Human|Assistant):")


class TextFormat(Format):
    """`text`, all of which is trained, as the answer to nothing."""

    name = "text"
    columns = (Column("text"),)

    @override
    def _sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        return Conversation((Message("assistant", self._text(record, "text", where)),))


class GuanacoFormat(Format):
    """`text` with the marks `### Human:` and `### Assistant:` before each turn, exactly so.

    White space around a turn belongs to the marks, not to what is said. Text before the first mark is a system message.
    """

    name = "guanaco"
    columns = (Column("text"),)

    @override
    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether the text has a mark."""
        text = self._value(record, "text")
        return isinstance(text, str) and _MARK.search(text) is not None

    @override
    def _sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        before, *turns = _MARK.split(self._text(record, "text", where))
        if not turns:
            raise DataError(
                f"{where}: no '### Human:' and no '### Assistant:' in the text; repair it, or choose the format text"
            )
        messages = [Message("system", before.strip())]
        for speaker, said in zip(turns[::2], turns[1::2], strict=True):
            messages.append(Message("user" if speaker == "Human" else "assistant", said.strip()))
        return in_turn(messages, noticed)


class TextLabelFormat(Format):
    """`text` (or `sentence`) and the `label` of its class: a name, a whole number, or true and false as 1 and 0."""

    name = "text_label"
    columns = (Column("text", ("sentence",)), Column("label"))

    @override
    def _sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Labelled:
        label = self._value(record, "label")
        what = repr(self.mapping.get("label", "label"))
        if isinstance(label, str):
            if not checked_text(label, what, where).strip():
                raise DataError(f"{where}: {what} is empty; name the class")
        elif isinstance(label, int):
            label = int(label)
        else:
            raise DataError(f"{where}: {what} must be the name or the number of a class, got {shown(label)}")
        return Labelled(self._text(record, "text", where), label)
