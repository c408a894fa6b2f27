"""The inputs of a report: results of evaluate and study, and answer files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from lightning_neft.errors import DataError
from lightning_neft.evaluation.choice import Choice, choose_alpha
from lightning_neft.evaluation.records import Output, read_outputs
from lightning_neft.evaluation.result import Fields, read_results
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import alpha_name

__all__ = ["AnswerFile", "Inputs", "Measured", "Result", "read_inputs"]


@dataclass(frozen=True)
class Result:
    """A result and the file that it was read from.

    Attributes:
        name: The file, with as much of its path as makes it unique.
        sha256: Of the file.
        kind: As in the result.
        label: Name of the model or arm that was measured.
        fields: The whole result.
        provenance: Its provenance.
    """

    name: str
    sha256: str
    kind: str
    label: str
    fields: Fields
    provenance: Fields


@dataclass(frozen=True)
class AnswerFile:
    """An answer file in AlpacaEval's format.

    Attributes:
        name: The file, as in `Result`.
        sha256: Of the file.
        label: Its generator, and its name if two files have the same generator.
        records: Its answers.
    """

    name: str
    sha256: str
    label: str
    records: Sequence[Output]


@dataclass(frozen=True)
class Measured:
    """The measurements of one model, or of all arms with one alpha.

    Attributes:
        label: Its name.
        each: The measurements of each arm; a single one for a result.
    """

    label: str
    each: Sequence[Fields]

    def values(self, key: str) -> list[float]:
        """Return a number of each arm that has it."""
        return [value for fields in self.each if (value := fields.number(key)) is not None]

    def mean(self, key: str) -> float | None:
        """Return the mean of a number over the arms."""
        values = self.values(key)
        return sum(values) / len(values) if values else None

    def per_sample(self, key: str) -> list[float]:
        """Return what was measured on each sample, of all arms together."""
        found = (fields.child("per_sample") for fields in self.each)
        return [value for fields in found if fields for value in fields.numbers(key)]


@dataclass(frozen=True)
class Inputs:
    """All inputs in the given order."""

    results: Sequence[Result]
    answer_files: Sequence[AnswerFile]
    studies: Sequence[StudyResult]

    @cached_property
    def choices(self) -> list[Choice]:
        """The alpha that each study supports, as `study --write-recipe` chooses it."""
        return [choose_alpha(study) for study in self.studies]

    def of_kind(self, kind: str) -> list[Result]:
        """Return the results of a kind."""
        return [result for result in self.results if result.kind == kind]

    def prefix(self, study: StudyResult, separator: str) -> str:
        """Return what precedes a text about one of several studies; empty for a single study."""
        return f"{study.label}{separator}" if len(self.studies) > 1 else ""

    def measured(self, kind: Literal["text_statistics", "memorization"]) -> list[Measured]:
        """Return the measurements of a kind: of the studies by alpha, then of the results."""
        found = []
        for study in self.studies:
            for alpha in study.alphas:
                each = [fields for arm in study.of_alpha(alpha) if (fields := getattr(arm, kind))]
                if each:
                    found.append(Measured(f"{self.prefix(study, ', ')}{alpha_name(alpha)}", each))
        return [*found, *(Measured(result.label, [result.fields]) for result in self.of_kind(kind))]


def read_inputs(paths: Sequence[Path]) -> Inputs:
    """Read results and answer files, which are distinguished by their content.

    Raises:
        DataError: A file cannot be read, or is neither.
    """
    results: list[Result] = []
    files: list[tuple[str, str, list[Output]]] = []
    for path, name in zip(paths, _short_names(paths), strict=True):
        content = _read(path)
        sha256 = hashlib.sha256(content).hexdigest()
        if _holds_answers(content):
            files.append((name, sha256, read_outputs(path)))
        else:
            for fields in (Fields(result, str(path)) for result in read_results(path)):
                kind, label = fields.text("kind") or "", fields.text("label") or ""
                source = fields.child("provenance") or Fields({}, str(path))
                results.append(Result(name, sha256, kind, label, fields, source))
    studies = [(result.name, StudyResult.read(result.fields)) for result in results if result.kind == "study"]
    labels = [study.label for _, study in studies]
    unique = [
        study if labels.count(study.label) == 1 else replace(study, label=f"{study.label} ({name})")
        for name, study in studies
    ]
    return Inputs(results, _labelled(files), unique)


def _read(path: Path) -> bytes:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is not a regular file; give a file that evaluate, study or generate wrote")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _holds_answers(content: bytes) -> bool:
    """Return whether it is an array or JSON Lines of answers; a result is one object."""
    content = content.lstrip()
    if content[:1] == b"[":
        return True
    try:
        first = json.loads(content.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "instruction" in first


def _labelled(files: Sequence[tuple[str, str, list[Output]]]) -> list[AnswerFile]:
    generators = [(records[0].generator if records else "") or name for name, _, records in files]
    return [
        AnswerFile(name, sha256, generator if generators.count(generator) == 1 else f"{generator} ({name})", records)
        for generator, (name, sha256, records) in zip(generators, files, strict=True)
    ]


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest unique end of each path: parent folders are private."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        size = 1
        while size < len(own) and sum(other[-size:] == own[-size:] for other in parts) > 1:
            size += 1
        names.append("/".join(own[-size:]) if own in parts and parts.count(own) == 1 else own[-1])
    return names
