"""Pairs of texts: a prompt and its completion, a source and its target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.formats.base import Column, Format

__all__ = ["PromptCompletionFormat", "SourceTargetFormat"]


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
