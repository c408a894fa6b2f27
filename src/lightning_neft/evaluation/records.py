"""AlpacaEval's files: outputs (instruction, output, generator) and annotations (two outputs and a preference)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_neft.data.sources.json_file import json_records
from lightning_neft.errors import DataError

__all__ = ["Annotation", "Output", "name_of_one", "read_annotations", "read_outputs", "shown"]

# Records with the same key are about the same question.
_Key = tuple[str, str]


@dataclass(frozen=True)
class Output:
    """What a model answered.

    Attributes:
        instruction: What it was asked.
        output: The answer.
        generator: Name of the model; empty if the file has none.
        input: Input of the instruction, as in Alpaca's data.
        reference: The expected answer; None if the file has none.
        dataset: Source of the instruction.
    """

    instruction: str
    output: str
    generator: str = ""
    input: str = ""
    reference: str | None = None
    dataset: str = ""

    @property
    def key(self) -> _Key:
        """Identifies the question."""
        return self.instruction, self.input


@dataclass(frozen=True)
class Annotation:
    """A judge's verdict on two answers.

    Attributes:
        instruction: What was asked.
        baseline: Answer of the baseline, `output_1`.
        output: Answer of the evaluated model, `output_2`.
        preference: 1 if the baseline won, 2 if the model did, 1.5 for a draw, or a value between; None if the judge
            gave none.
        baseline_generator: Name of the baseline.
        generator: Name of the evaluated model.
        annotator: Name of the judge.
        input: Input of the instruction.
        dataset: Source of the instruction; not read from a file.
    """

    instruction: str
    baseline: str
    output: str
    preference: float | None
    baseline_generator: str = ""
    generator: str = ""
    annotator: str = ""
    input: str = ""
    dataset: str = ""

    @property
    def key(self) -> _Key:
        """Identifies the question."""
        return self.instruction, self.input

    def to_json(self) -> dict[str, Any]:
        """Return the record of an annotations file."""
        return {
            "instruction": self.instruction,
            **({"input": self.input} if self.input else {}),
            "output_1": self.baseline,
            "generator_1": self.baseline_generator,
            "output_2": self.output,
            "generator_2": self.generator,
            "dataset": self.dataset,
            "annotator": self.annotator,
            "preference": self.preference,
        }


def read_outputs(path: Path) -> list[Output]:
    """Read an outputs file: a JSON array or JSON Lines.

    Raises:
        DataError: The file is missing, is not an outputs file, or repeats an instruction.
    """
    return _read(path, _output)


def read_annotations(path: Path) -> list[Annotation]:
    """Read an annotations file: a JSON array or JSON Lines.

    Raises:
        DataError: The file is missing, is not an annotations file, or repeats an instruction.
    """
    return _read(path, _annotation)


def _read(path: Path, make: Callable[[dict[str, Any], str], Any]) -> list[Any]:
    if not path.is_file():
        raise DataError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; give a file in AlpacaEval's format"
        )
    found: list[Any] = []
    places: dict[_Key, str] = {}
    try:
        for record, where in json_records(path):
            item = make(record, where)
            if item.key in places:
                raise DataError(
                    f"{where} has the same instruction as {places[item.key]}: {shown(item.key[0])}; keep one"
                )
            places[item.key] = where
            found.append(item)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return found


def _output(record: dict[str, Any], where: str) -> Output:
    reference = record.get("reference")
    return Output(
        instruction=_text(record, "instruction", where),
        output=_text(record, "output", where),
        generator=_text(record, "generator", where, ""),
        input=_text(record, "input", where, ""),
        reference=None if reference is None else _text(record, "reference", where),
        dataset=_text(record, "dataset", where, ""),
    )


def _annotation(record: dict[str, Any], where: str) -> Annotation:
    return Annotation(
        instruction=_text(record, "instruction", where),
        baseline=_text(record, "output_1", where),
        output=_text(record, "output_2", where),
        preference=_preference(record, where),
        baseline_generator=_text(record, "generator_1", where, ""),
        generator=_text(record, "generator_2", where, ""),
        annotator=_text(record, "annotator", where, ""),
        input=_text(record, "input", where, ""),
    )


def _text(record: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = record.get(name, default)
    if value is None and name not in record:
        raise DataError(f"{where} has no {name!r}; its keys are {', '.join(map(repr, record)) or 'none'}")
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} is {value!r}, it must be a string")
    return value


def _preference(record: dict[str, Any], where: str) -> float | None:
    """Return the preference as AlpacaEval reads it: 0 used to be a draw, and null is no preference."""
    if "preference" not in record:
        raise DataError(f"{where} has no 'preference'; its keys are {', '.join(map(repr, record)) or 'none'}")
    value = record["preference"]
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value == 0 or 1 <= value <= 2):
        raise DataError(
            f"{where}: 'preference' is {value!r}, it must be 1 (output_1 won), 2 (output_2 won), 1.5 or 0 (a draw), "
            "or a number between 1 and 2"
        )
    return 1.5 if value == 0 else float(value)


def name_of_one(names: Sequence[str], path: Path, what: str, default: str) -> str:
    """Return the name shared by all records of a file, or the default if they have none.

    Raises:
        DataError: The records have several names.
    """
    found = sorted(set(names))
    if len(found) > 1:
        raise DataError(
            f"{path} contains {what} of several models ({', '.join(map(repr, found[:3]))}); give a file for each model"
        )
    return (found[0] if found else "") or default


def shown(text: str) -> str:
    """Return a text for a message: quoted, and shortened if it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
