"""Instruction data: Alpaca's columns, prompt and completion, source and target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.formats.format import Column, Format

__all__ = ["HISTORY_IGNORED", "AlpacaFormat", "PromptCompletionFormat", "SourceTargetFormat"]


HISTORY_IGNORED = "the column history is not used: each sample is its last exchange alone"


class AlpacaFormat(Format):
    """`instruction`, `input` (missing, null or empty where there is none) and `output`; `context`, `response` in Dolly.

    A `system` column becomes a system message.
    """

    name = "alpaca"
    columns = (
        Column("instruction"),
        Column("input", ("context",), required=False),
        Column("output", ("response",)),
        Column("system", ("system_prompt",), required=False),
    )

    @override
    def _sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        if record.get("history"):
            noticed.add(HISTORY_IGNORED)
        return Conversation.exchange(
            self._text(record, "instruction", where),
            self._text(record, "output", where, may_lack=True),
            context=self._text(record, "input", where, may_lack=True),
            system=self._text(record, "system", where, may_lack=True),
        )


class _PairFormat(Format):
    """The first column is the prompt, the second the answer."""

    columns: ClassVar[tuple[Column, Column]]

    @override
    def _sample(self, record: Mapping[str, Any], where: str, noticed: set[str]) -> Conversation:
        prompt, answer = self.columns
        return Conversation.exchange(
            self._text(record, prompt.name, where), self._text(record, answer.name, where, may_lack=True)
        )


class PromptCompletionFormat(_PairFormat):
    """`prompt` and `completion`, or `response`."""

    name = "prompt_completion"
    columns = (Column("prompt"), Column("completion", ("response",)))


class SourceTargetFormat(_PairFormat):
    """`source` and `target` of a seq2seq model, or FLAN's `inputs` and `targets`."""

    name = "source_target"
    columns = (Column("source", ("inputs",)), Column("target", ("targets",)))
