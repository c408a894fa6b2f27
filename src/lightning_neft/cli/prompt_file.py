"""Read a file of prompts: instructions, prompts, messages, or any data that a model can be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.formats.format import Format
from lightning_neft.data.formats.registry import choose_format
from lightning_neft.data.sources.source import TOY, open_source
from lightning_neft.errors import DataError

__all__ = ["Prompt", "read_prompts"]

# A file of prompts has no answers: the column that each kind of prompt lacks, and what else data call it.
_ANSWERS = {
    "instruction": ("output", "response"),
    "prompt": ("completion", "response"),
    "source": ("target",),
    "inputs": ("targets",),
}


@dataclass(frozen=True)
class Prompt:
    """One prompt of a file.

    Attributes:
        conversation: What is asked, without the answer.
        dataset: Name of the dataset that it is from.
        reference: The answer of the data; empty where there is none.
    """

    conversation: Conversation
    dataset: str
    reference: str = ""

    def to_json(self, output: str, generator: str) -> dict[str, str]:
        """Return the prompt and an answer to it in the form of AlpacaEval."""
        last = self.conversation.messages[-1]
        return {
            "instruction": last.content,
            **({"input": last.context} if last.context else {}),
            "output": output,
            "generator": generator,
            "dataset": self.dataset,
            **({"reference": self.reference} if self.reference else {}),
        }


def read_prompts(source: str) -> list[Prompt]:
    """Read the prompts of a file, in its order.

    Args:
        source: A file, or another source of data, with `instruction` (and `input`), `prompt`, `messages`, or the
            columns of a data format. Answers may be missing; those of a file of data become references.

    Raises:
        DataError: If it cannot be read, or a record asks nothing; with file and line.
    """
    records = open_source(source, split="held_out" if source == TOY else None)
    form = choose_format([_completed(record) for record in records.head], source=source)
    dataset = Path(source).name.partition(".")[0]
    return [_prompt(record, where, form, dataset) for record, where in records]


def _completed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with an empty answer where it has none."""
    answers = next((names for asked, names in _ANSWERS.items() if asked in record), ())
    missing = {answers[0]: ""} if answers and not any(name in record for name in answers) else {}
    return {**record, **missing}


def _prompt(record: Mapping[str, Any], where: str, form: Format, dataset: str) -> Prompt:
    sample = form.parse(_completed(record), where)
    said = sample.messages if isinstance(sample, Conversation) else ()
    # Not by its text: the answer may be an empty one.
    has_answer = bool(said) and said[-1].role == "assistant"
    asked = said[:-1] if has_answer else said
    if not asked or asked[-1].role != "user":
        raise DataError(f"{where}: there is no prompt of the user to answer, in the format {form.name}")
    if not (asked[-1].content.strip() or asked[-1].context.strip()):
        raise DataError(f"{where}: the prompt is empty")
    # The answers in a file of outputs are those of another model.
    reference = said[-1].content if has_answer and "generator" not in record else ""
    return Prompt(Conversation(asked), str(record.get("dataset") or dataset), reference)
