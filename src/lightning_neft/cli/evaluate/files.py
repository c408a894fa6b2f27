"""Where results go: `--out`, or a file in the folder results that is named by model and kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_neft.errors import ConfigError
from lightning_neft.evaluation.result import write_result

__all__ = ["check_out", "write_results"]

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
    folder = path.parent if _is_file(path) else path
    blocking = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    if not blocking.is_dir():
        raise ConfigError(f"--out {path}: {blocking} is a file; give another name")


def write_results(results: Sequence[dict[str, Any]], out: str | None) -> list[Path]:
    """Write each result into its file and return these.

    Raises:
        ConfigError: There are several for one file, or they cannot be written.
    """
    path = Path(_FOLDER if out is None else out)
    if _is_file(path):
        if len(results) > 1:
            raise ConfigError(f"--out {out}: there are {len(results)} results; give the name of a folder")
        paths = [path]
    else:
        paths = []
        for result in results:
            # As a file name, also where the model has the name of one in a folder.
            label = re.sub(r"[^\w.-]+", "-", result["label"]).strip("-.") or "model"
            name = f"{label}-{result['kind']}"
            number = 1
            while (place := path / (f"{name}.json" if number == 1 else f"{name}-{number}.json")) in paths:
                number += 1
            paths.append(place)
    try:
        for place, result in zip(paths, results, strict=True):
            write_result(place, result)
    except OSError as error:
        raise ConfigError(f"the results cannot be written to {path}: {error.strerror or error}; give --out") from error
    return paths


def _is_file(path: Path) -> bool:
    return path.suffix == ".json"
