"""Instruction data: Alpaca's columns, prompt and completion, source and target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.formats.format import Column, Exchanges, Format

__all__ = ["HISTORY_IGNORED", "AlpacaFormat", "PromptCompletionFormat", "SourceTargetFormat"]


HISTORY_IGNORED = "the column history is ignored: each sample is its last exchange only"


class AlpacaFormat(Format):
    """An instruction with an optional input, and the answer, as in Alpaca and Dolly.

    The input may be missing, null or empty. A `system` column becomes a system message.
    """

    name = "alpaca"
    template = "alpaca"
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
    """The first column is the prompt, the second the answer."""

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
