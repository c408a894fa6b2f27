"""Where results go: `--out`, or a file in the folder results that is named by model and kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_neft.common.paths import file_in_the_way
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.evaluation.result import read_result, write_result

__all__ = ["check_out", "numbered_files", "results_folder", "write_results"]

_FOLDER = "results"


def check_out(out: str | None) -> None:
    """Say before the work whether the results will have a place.

    Args:
        out: Value of `--out`: a file that ends with .json, or a folder.

    Raises:
        ConfigError: There is something else of that name.
    """
    path = Path(_FOLDER if out is None else out)
    if _is_file(path) and path.is_dir():
        raise ConfigError(f"--out {out} is a folder; give a file, or a folder whose name does not end with .json")
    folder = results_folder(out)
    if blocking := file_in_the_way(folder):
        raise ConfigError(f"--out {path}: {blocking} is a file; give another name")


def write_results(results: Sequence[dict[str, Any]], out: str | None) -> list[Path]:
    """Write each result into its file and return these.

    In a folder a result takes the place of an earlier one only if that was made of the same files with the same
    settings; else it gets the next number.

    Raises:
        ConfigError: There are several for one file, or they cannot be written.
    """
    path = Path(_FOLDER if out is None else out)
    if _is_file(path):
        if len(results) > 1:
            raise ConfigError(f"--out {out}: there are {len(results)} results; give the name of a folder")
        paths = [path]
    else:
        names = [(result["label"], result["kind"]) for result in results]
        paths = numbered_files(path, names, lambda place, index: _is_of_another(place, results[index]))
    try:
        for place, result in zip(paths, results, strict=True):
            write_result(place, result)
    except OSError as error:
        raise ConfigError(f"the results cannot be written to {path}: {error.strerror or error}; give --out") from error
    return paths


def results_folder(out: str | None) -> Path:
    """Return the folder that the results go to."""
    path = Path(_FOLDER if out is None else out)
    return path.parent if _is_file(path) else path


def numbered_files(
    folder: Path, names: Sequence[tuple[str, str]], is_taken: Callable[[Path, int], bool] = lambda place, index: False
) -> list[Path]:
    """Return a file for each name and kind, with a number behind those that occurred before.

    Args:
        folder: The folder.
        names: Names and kinds.
        is_taken: Whether a file is not to be written for the name of an index.
    """
    paths: list[Path] = []
    for index, (name, kind) in enumerate(names):
        # As a file name, also where the model has the name of one in a folder.
        label = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
        stem = f"{label}-{kind}"
        number = 1
        while (place := folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")) in paths or is_taken(
            place, index
        ):
            number += 1
        paths.append(place)
    return paths


def _is_file(path: Path) -> bool:
    return path.suffix == ".json"


def _is_of_another(path: Path, result: dict[str, Any]) -> bool:
    """Return whether there is something else in a place than an earlier form of a result."""
    if not path.exists():
        return False
    try:
        found = read_result(path)["provenance"]
    except DataError:
        return True
    # As JSON gives it back.
    mine = json.loads(json.dumps(result["provenance"]))
    return any(found.get(part) != mine[part] for part in ("inputs", "settings", "seed"))
