"""Stores each answer as soon as it is generated, so that an interrupted file can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_neft.common.files import write_text
from lightning_neft.errors import ConfigError

__all__ = ["AnswerJournal", "fingerprint", "journal_path"]

# Values of each weight that tell one model from another.
_VALUES = 64


class AnswerJournal:
    """The answers to the prompts of a file so far, in `OUTPUT.partial.jsonl` next to the output.

    The first line is the fingerprint of model, settings and prompts; each further one an answer with the number of its
    prompt. A line that was cut short is made again.

    Args:
        output: The file that all answers will be in.
        identity: The fingerprint.
        start_anew: Whether answers under another fingerprint are dropped.

    Raises:
        ConfigError: If there are answers under another fingerprint, or the file is no journal.
    """

    def __init__(self, output: Path, identity: str, *, start_anew: bool = False) -> None:
        self.path = journal_path(output)
        self.answers: dict[int, str] = {}
        """The answers so far, by the number of their prompt."""
        lines = self._lines()
        known = lines[0]["fingerprint"] if lines else None
        if lines and known != identity and not start_anew:
            raise ConfigError(
                f"{self.path} holds {len(lines) - 1} answers of another model, other settings or other prompts; "
                "give --overwrite to start over, or another --output"
            )
        if known == identity:
            self.answers = {line["index"]: line["output"] for line in lines[1:]}
        # Without the line that was cut short.
        kept = "".join(_line({"index": index, "output": answer}) for index, answer in self.answers.items())
        write_text(self.path, _line({"fingerprint": identity}) + kept)
        self._file = self.path.open("a", encoding="utf-8")

    def add(self, index: int, answer: str) -> None:
        """Keep an answer."""
        self.answers[index] = answer
        self._file.write(_line({"index": index, "output": answer}))
        self._file.flush()

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file, once all answers are somewhere else."""
        self.close()
        self.path.unlink()

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        try:
            # What has no end was cut short.
            whole = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
            lines = [json.loads(line) for line in whole]
            if lines and not isinstance(lines[0]["fingerprint"], str):
                raise TypeError
            if any(not isinstance(line["index"] + len(line["output"]), int) for line in lines[1:]):
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.path} is no list of answers; remove it, or give another --output") from error
        return lines


def _line(entries: Mapping[str, Any]) -> str:
    return json.dumps(entries, ensure_ascii=False) + "\n"


def journal_path(output: Path) -> Path:
    """Return where the answers are until the output is whole."""
    return output.with_name(f"{output.name}.partial.jsonl")


def fingerprint(model: torch.nn.Module, settings: Mapping[str, Any], prompts: Any) -> str:
    """Return a digest of all that decides the answers.

    Args:
        model: The model: of each of its weights the shape and a few values count, so that it takes no time.
        settings: Plain values.
        prompts: What it reads, as plain values.
    """
    digest = hashlib.sha256(json.dumps([settings, prompts], sort_keys=True, default=str).encode())
    for name, weight in model.named_parameters():
        flat = weight.detach().flatten()
        values = flat[:: max(1, len(flat) // _VALUES)][: _VALUES + 1].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + values.numpy().tobytes())
    return digest.hexdigest()
