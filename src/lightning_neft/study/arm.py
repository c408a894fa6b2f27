"""The task of an arm, and the file with its record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning_neft.common.files import write_text
from lightning_neft.study.plan import Arm

__all__ = ["RECORD", "ArmTask", "Measures", "read_record", "write_record"]

RECORD = "arm.json"

"""The file in the folder of an arm with its outcome."""


class Measures(NamedTuple):
    """What to measure of a trained arm besides its losses.

    Attributes:
        answers: Number of held-out prompts to answer.
        max_new_tokens: Maximum tokens of an answer.
        memorization: Number of training prompts whose answers are compared with the references.
    """

    answers: int
    max_new_tokens: int
    memorization: int


class ArmTask(NamedTuple):
    """The task of a process: one arm.

    Attributes:
        arm: Its alpha and seed.
        folder: Folder of its run.
        args: The command line of its fit, without alpha, seed and folder.
        measures: What to measure afterwards.
    """

    arm: Arm
    folder: Path
    args: tuple[str, ...]
    measures: Measures

    def to_json(self) -> str:
        """Return it as a string for a command line."""
        return json.dumps([self.arm.alpha, self.arm.seed, str(self.folder), self.args, self.measures])

    @classmethod
    def from_json(cls, text: str) -> ArmTask:
        """Return the task in such a string.

        Example:
            >>> task = ArmTask(Arm(5.0, 0), Path("runs"), ("--samples=0",), Measures(1, 2, 3))
            >>> ArmTask.from_json(task.to_json()) == task
            True
        """
        alpha, seed, folder, args, measures = json.loads(text)
        return cls(Arm(alpha, seed), Path(folder), tuple(args), Measures(*measures))


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of an arm into its folder, atomically.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    write_text(folder / RECORD, json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of an arm; None until it has ended."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record
