"""A result: one JSON object per file, with flat metrics and their provenance."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning_neft._version import __version__
from lightning_neft.common.files import write_text
from lightning_neft.errors import DataError

__all__ = [
    "KINDS",
    "SCHEMA",
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


@dataclass(frozen=True)
class InputFile:
    """A file that a result was computed from.

    Attributes:
        role: Its role, such as outputs or annotations.
        name: Its name, without the folders above it.
        sha256: Of its bytes.
        records: Number of records; None if it does not consist of records.
    """

    role: str
    name: str
    sha256: str
    records: int | None = None

    @classmethod
    def read(cls, role: str, path: Path, records: int | None = None) -> InputFile:
        """Return the description of a file, which is read to compute its hash.

        Raises:
            OSError: The file cannot be read.
        """
        digest = hashlib.sha256()
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
        "versions": _versions(),
        "inputs": [asdict(item) for item in inputs],
        "settings": dict(settings),
        "seed": seed,
    }


def _versions() -> dict[str, str]:
    found = {"lightning_neft": __version__, "python": platform.python_version()}
    return {**found, **{name: version(name) for name in _PACKAGES}}


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
            f"{path} is not a result: not JSON in UTF-8 ({error}); give a file that evaluate wrote"
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
