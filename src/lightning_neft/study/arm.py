"""What an arm is asked to do, and the file that it leaves when it is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning_neft.common.files import write_text
from lightning_neft.study.plan import Arm

__all__ = ["RECORD", "ArmTask", "Measures", "read_record", "write_record"]

RECORD = "arm.json"

"""The file in the folder of an arm that says what became of it."""


class Measures(NamedTuple):
    """What is measured of a trained arm besides its losses.

    Attributes:
        answers: Answers to so many held-out prompts.
        max_new_tokens: The most tokens of an answer.
        memorization: Answers to so many training prompts, compared with the references.
    """

    answers: int
    max_new_tokens: int
    memorization: int


class ArmTask(NamedTuple):
    """One arm, as a process gets it.

    Attributes:
        arm: Its alpha and seed.
        folder: Folder of its run.
        args: The command line of its fit, but for alpha, seed and folder.
        measures: What is measured of it afterwards.
    """

    arm: Arm
    folder: Path
    args: tuple[str, ...]
    measures: Measures

    def to_json(self) -> str:
        """Return it as a text, for a command line."""
        return json.dumps([self.arm.alpha, self.arm.seed, str(self.folder), self.args, self.measures])

    @classmethod
    def from_json(cls, text: str) -> ArmTask:
        """Return the task of such a text.

        Example:
            >>> task = ArmTask(Arm(5.0, 0), Path("runs"), ("--samples=0",), Measures(1, 2, 3))
            >>> ArmTask.from_json(task.to_json()) == task
            True
        """
        alpha, seed, folder, args, measures = json.loads(text)
        return cls(Arm(alpha, seed), Path(folder), tuple(args), Measures(*measures))


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what became of an arm into its folder, whole or not at all.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    write_text(folder / RECORD, json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what became of an arm; None while it has not ended."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record
