"""A result: one JSON object per file, with flat metrics and their provenance; `Fields` checks one that is read."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from reprlib import repr as short
from typing import Any

from lightning_neft._version import __version__
from lightning_neft.common.files import write_text
from lightning_neft.errors import DataError

__all__ = [
    "KINDS",
    "SCHEMA",
    "Curve",
    "Fields",
    "InputFile",
    "make_result",
    "provenance",
    "read_result",
    "read_results",
    "results_in",
    "write_result",
]

SCHEMA = "lightning_neft.result/1"

KINDS = (
    "text_statistics",
    "memorization",
    "clean_loss",
    "win_rate",
    "win_rate_difference",
    "capability",
    "length_ablation",
    "study",
)
# Packages whose version can change the numbers.
_PACKAGES = ("torch", "lightning", "transformers", "torchmetrics", "numpy", "scipy")

# What the answers of a model folder or of a sharded checkpoint depend on.
_OF_MODELS = (".json", ".safetensors", ".jinja", ".distcp", ".pt")


@dataclass(frozen=True)
class InputFile:
    """A file or folder that a result was computed from.

    Attributes:
        role: Its role, such as outputs or annotations.
        name: Its name, without the folders above it.
        sha256: Of its bytes; of a folder, of the names and bytes of its weights, configs and templates.
        records: Number of records; None if it does not consist of records.
    """

    role: str
    name: str
    sha256: str
    records: int | None = None

    @classmethod
    def read(cls, role: str, path: Path, records: int | None = None) -> InputFile:
        """Return the description of a file or folder, which is read to compute its hash.

        Raises:
            OSError: A file cannot be read.
        """
        digest = hashlib.sha256()
        if path.is_dir():
            for each in sorted(each for each in path.rglob("*") if each.suffix in _OF_MODELS):
                digest.update(f"{each.relative_to(path).as_posix()} {cls.read(role, each).sha256}\n".encode())
            return cls(role, path.name, digest.hexdigest(), records)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return cls(role, path.name, digest.hexdigest(), records)


def provenance(inputs: Sequence[InputFile], settings: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    """Return the provenance of a result.

    Args:
        inputs: The files that it was computed from.
        settings: The options that its numbers depend on, as JSON values.
        seed: Of all random draws; None if there were none.

    Example:
        >>> found = provenance([], {"first_k_tokens": 50}, seed=None)
        >>> found["settings"], found["seed"], "torch" in found["versions"]
        ({'first_k_tokens': 50}, None, True)
    """
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "lightning_neft": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "inputs": [asdict(item) for item in inputs],
        "settings": dict(settings),
        "seed": seed,
    }


def make_result(kind: str, label: str, metrics: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result: its kind and label, its metrics, and their provenance.

    Args:
        kind: One of `KINDS`.
        label: Name of the model or arm that was measured.
        metrics: The flat numbers, and lists such as `per_sample`.
        source: What `provenance` returns.

    Example:
        >>> list(make_result("capability", "alpha5", {"tasks": {}}, {"seed": 0}))
        ['schema', 'kind', 'label', 'tasks', 'provenance']
    """
    return {"schema": SCHEMA, "kind": kind, "label": label, **metrics, "provenance": dict(source)}


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result, whole or not at all.

    Raises:
        ValueError: It is not a result, or contains a number that JSON lacks (NaN, infinity); use None instead.
        OSError: The file cannot be written.
    """
    if problem := _problem(result):
        raise ValueError(f"not a result: {problem}")
    write_text(path, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_result(path: Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        DataError: The file is missing, or is not a result of this version of the package.
    """
    found = _read(path)
    _check(found, str(path))
    result: dict[str, Any] = found
    return result


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a result, or several results that `evaluate --json` printed as one object, `{"results": [...]}`.

    Raises:
        DataError: The file is missing, or is not a result of this version of the package.
    """
    found = _read(path)
    several = found.get("results") if isinstance(found, dict) and "schema" not in found else None
    if not (isinstance(several, list) and several):
        _check(found, str(path))
        return [found]
    for number, result in enumerate(several):
        _check(result, f"{path}: results[{number}]")
    return several


def results_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results in a folder by the names of their files; other files are skipped."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        with suppress(DataError):
            found[path.name] = read_result(path)
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"the result {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a result: not JSON in UTF-8 ({error}); give a file that evaluate or study wrote"
        ) from error


def _check(found: Any, where: str) -> None:
    if problem := _problem(found):
        raise DataError(f"{where} is not a result: {problem}; give a file that evaluate or study wrote")


def _problem(result: Any) -> str | None:
    if not isinstance(result, Mapping):
        return f"it is a {type(result).__name__}, it must be an object"
    for name, allowed in (("schema", (SCHEMA,)), ("kind", KINDS)):
        if result.get(name) not in allowed:
            return f"{name} is {result.get(name)!r}, it can be {', '.join(allowed)}"
    if not isinstance(result.get("label"), str):
        return f"label is {result.get('label')!r}, it must be the name of what was measured"
    if not isinstance(result.get("provenance"), Mapping):
        return f"provenance is {result.get('provenance')!r}, it must be an object"
    return None


# Pairs of step and value.
Curve = tuple[tuple[float, float], ...]


class Fields:
    """An object read from JSON. A missing or null value is None or empty; a value of the wrong type is an error.

    Args:
        data: The object.
        where: The file and the key of the object in it, for messages.

    Example:
        >>> fields = Fields({"mean": 1, "splits": {"train": {"n": 3}}}, "a.json")
        >>> fields.number("mean"), fields.number("low"), fields.child("splits").child("train").number("n")
        (1.0, None, 3.0)
        >>> fields.text("mean")
        Traceback (most recent call last):
        lightning_neft.errors.DataError: a.json: mean is 1, where a string is expected
    """

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    def number(self, key: str) -> float | None:
        """Return a number; None also for NaN and the infinities."""
        found = self._get(key, _is_number, "a number")
        return float(found) if found is not None and math.isfinite(found) else None

    def needed(self, key: str) -> float:
        """Return a required number."""
        found = self.number(key)
        if found is None:
            raise DataError(f"{self.where}: {key} is {self.data.get(key)!r}, it must be a number")
        return found

    def text(self, key: str) -> str | None:
        """Return a text."""
        found: str | None = self._get(key, lambda value: isinstance(value, str), "a string")
        return found

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return a list of numbers, without those that are null or not finite."""
        found = self._list(key, lambda value: value is None or _is_number(value), "numbers")
        return tuple(float(value) for value in found if value is not None and math.isfinite(value))

    def points(self, key: str) -> Curve:
        """Return a list of pairs of step and value; a value that is null or not finite becomes NaN."""
        found = self._list(key, _is_point, "[step, value]")
        return tuple(
            (step, float(value) if value is not None and math.isfinite(value) else math.nan) for step, value in found
        )

    def child(self, key: str) -> Fields | None:
        """Return an object."""
        found = self._get(key, lambda value: isinstance(value, Mapping), "an object")
        return None if found is None else Fields(found, f"{self.where}: {key}")

    def children(self, key: str) -> list[Fields]:
        """Return a list of objects."""
        found = self._list(key, lambda value: isinstance(value, Mapping), "objects")
        return [Fields(value, f"{self.where}: {key}[{index}]") for index, value in enumerate(found)]

    def names(self) -> list[str]:
        """Return the names in the object, in its order."""
        return list(self.data)

    def _get(self, key: str, is_right: Callable[[Any], bool], expected: str) -> Any:
        found = self.data.get(key)
        if found is not None and not is_right(found):
            raise DataError(f"{self.where}: {key} is {short(found)}, where {expected} is expected")
        return found

    def _list(self, key: str, is_right: Callable[[Any], bool], items: str) -> list[Any]:
        found = self._get(key, lambda value: isinstance(value, list), "a list")
        return self._get(key, lambda values: all(map(is_right, values)), f"a list of {items}") if found else []


def _is_point(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2):
        return False
    return _is_number(value[0]) and (value[1] is None or _is_number(value[1]))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
