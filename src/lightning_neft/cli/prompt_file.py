"""A file of prompts: its reader, and the journal of the answers to it, from which an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft.common.files import write_text
from lightning_neft.data.conversation import Conversation
from lightning_neft.data.formats.format import Format
from lightning_neft.data.formats.registry import choose_format
from lightning_neft.data.sources.source import TOY, open_source
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch

__all__ = ["AnswerJournal", "Prompt", "fingerprint", "journal_path", "read_prompts"]

# Prompts have no answers: for each kind, the column that is missing, and its other names in training data.
_ANSWERS = {
    "instruction": ("output", "response"),
    "prompt": ("completion", "response"),
    "source": ("target",),
    "inputs": ("targets",),
}
# Values read of each weight for the fingerprint of a model.
_VALUES = 64


@dataclass(frozen=True)
class Prompt:
    """One prompt of a file.

    Attributes:
        conversation: The conversation up to the user's last message, or the results of tools after it.
        dataset: Name of the dataset that it is from.
        reference: The answer in the data; empty if there is none.
    """

    conversation: Conversation
    dataset: str
    reference: str = ""

    def to_json(self, output: str, generator: str) -> dict[str, str]:
        """Return the prompt and an answer to it in AlpacaEval's format."""
        last = next(message for message in reversed(self.conversation.messages) if message.role == "user")
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
        source: A file, or another data source, with `instruction` (and `input`), `prompt`, `messages`, or the columns
            of a data format. Answers may be missing; those in training data become references.

    Raises:
        DataError: If it cannot be read, or a record has no prompt; with file and line.
    """
    records = open_source(source, split="held_out" if source == TOY else None)
    form = choose_format([_completed(record) for record in records.head], source=source)
    dataset = Path(source).name.partition(".")[0]
    return [_prompt(record, where, form, dataset) for record, where in records]


def _completed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record, with an empty answer if it has none."""
    answers = next((names for asked, names in _ANSWERS.items() if asked in record), ())
    missing = {answers[0]: ""} if answers and not any(name in record for name in answers) else {}
    return {**record, **missing}


def _prompt(record: Mapping[str, Any], where: str, form: Format, dataset: str) -> Prompt:
    sample = form.parse(_completed(record), where)
    talk = sample if isinstance(sample, Conversation) else Conversation(())
    asked = talk.prompt.messages
    if all(message.role != "user" for message in asked) or asked[-1].role not in ("user", "tool"):
        raise DataError(f"{where}: the record has no prompt of a user to answer (format {form.name})")
    if asked[-1].role == "user" and not (asked[-1].content.strip() or asked[-1].context.strip()):
        raise DataError(f"{where}: the prompt is empty")
    # In a file of outputs the answers are another model's.
    reference = talk.answer if "generator" not in record else ""
    return Prompt(talk.prompt, str(record.get("dataset") or dataset), reference)


class AnswerJournal:
    """The answers to a file of prompts so far, in `OUTPUT.partial.jsonl` next to the output.

    The first line is the fingerprint of model, settings and prompts; each other line is an answer with the index of its
    prompt. An answer whose line was truncated is generated again.

    Args:
        output: The file for all answers.
        identity: The fingerprint.
        start_anew: Whether answers with another fingerprint are dropped.

    Raises:
        ConfigError: If there are answers with another fingerprint, or the file is not a journal.
    """

    def __init__(self, output: Path, identity: str, *, start_anew: bool = False) -> None:
        self.path = journal_path(output)
        self.answers: dict[int, str] = {}
        """The answers so far, by the index of their prompt."""
        lines = self._lines()
        known = lines[0]["fingerprint"] if lines else None
        if lines and known != identity and not start_anew:
            raise ConfigError(
                f"{self.path} holds {len(lines) - 1} answers of another model, other settings or other prompts; "
                "give --overwrite to start over, or another --output"
            )
        if known == identity:
            self.answers = {line["index"]: line["output"] for line in lines[1:]}
        # Without the truncated line.
        kept = "".join(_line({"index": index, "output": answer}) for index, answer in self.answers.items())
        write_text(self.path, _line({"fingerprint": identity}) + kept)
        self._file = self.path.open("a", encoding="utf-8")

    def add(self, index: int, answer: str) -> None:
        """Store an answer.

        Raises:
            OSError: If it cannot be written, with the name of the file.
        """
        self.answers[index] = answer
        try:
            self._file.write(_line({"index": index, "output": answer}))
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file, once the output has all answers."""
        self.close()
        self.path.unlink()

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        try:
            # A line without its end was truncated.
            whole = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
            lines = [json.loads(line) for line in whole]
            if lines and not isinstance(lines[0]["fingerprint"], str):
                raise TypeError
            if any(not isinstance(line["index"] + len(line["output"]), int) for line in lines[1:]):
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path} is not a journal of answers; remove it, or give another --output"
            ) from error
        return lines


def _line(entries: Mapping[str, Any]) -> str:
    return json.dumps(entries, ensure_ascii=False) + "\n"


def journal_path(output: Path) -> Path:
    """Return the path of the journal of an output."""
    return output.with_name(f"{output.name}.partial.jsonl")


def fingerprint(model: torch.nn.Module, settings: Mapping[str, Any], prompts: Any) -> str:
    """Return a digest of everything that determines the answers.

    Args:
        model: The model; of each weight the shape and a few values are read, which takes no time.
        settings: Plain values.
        prompts: The input of the model, as plain values.
    """
    digest = hashlib.sha256(json.dumps([settings, prompts], sort_keys=True, default=str).encode())
    for name, weight in model.named_parameters():
        flat = weight.detach().flatten()
        values = flat[:: max(1, len(flat) // _VALUES)][: _VALUES + 1].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + values.numpy().tobytes())
    return digest.hexdigest()
