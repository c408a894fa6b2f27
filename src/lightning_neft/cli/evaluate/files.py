"""Where results go: `--out`, or a file in the folder results that is named by model and kind."""

from __future__ import annotations

import json
import os
import re
import stat
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_neft.common.paths import check_output, file_in_the_way, numbered
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.evaluation.result import read_result, write_result

__all__ = ["check_not_read", "check_out", "is_of_others", "numbered_files", "results_folder", "write_results"]

_FOLDER = "results"


def check_out(out: Path | None, kind: str, options: Namespace) -> None:
    """Say before the work whether the results will have a place.

    Args:
        out: Value of `--out`: a file that ends with .json, or a folder.
        kind: Of the result.
        options: Those of the command line; `inputs` are the files that it reads.

    Raises:
        ConfigError: There is something else of that name.
    """
    path = out or Path(_FOLDER)
    if _is_file(path):
        if path.is_dir():
            raise ConfigError(f"--out {out} is a folder; give a file, or a folder whose name does not end with .json")
        place = check_output(path, "--out", options.inputs)
        if place.exists() and not options.overwrite:
            try:
                found = read_result(place)["kind"]
            except DataError:
                raise ConfigError(
                    f"--out {out} exists and is not a result; give another name, or --overwrite"
                ) from None
            if found != kind:
                raise ConfigError(
                    f"--out {out} exists and is a result of the kind {found}, not {kind}; give another name, or "
                    "--overwrite"
                )
    if blocking := file_in_the_way(results_folder(out)):
        raise ConfigError(f"--out {path}: {blocking} is a file; give another name")


def check_not_read(options: Namespace, files: Iterable[Path]) -> None:
    """Check that the results do not take the place of files that are known only now to be read.

    Raises:
        ConfigError: They would.
    """
    if options.out is not None and _is_file(options.out):
        check_output(options.out, "--out", files)


def write_results(results: Sequence[dict[str, Any]], options: Namespace) -> list[Path]:
    """Write each result into its file and return these.

    A result takes the place of an earlier one only if that was made of the same files with the same settings. Else it
    gets the next number in a folder; the file of `--out` is then replaced with `--overwrite` alone.

    Raises:
        ConfigError: There are several for one file, or they cannot be written, or the file holds another result: then
            the new one is in a file beside it.
    """
    path = options.out or Path(_FOLDER)
    beside = False
    if _is_file(path):
        if len(results) > 1:
            raise ConfigError(f"--out {path}: there are {len(results)} results; give the name of a folder")
        place = check_output(path, "--out", options.inputs)
        beside = not options.overwrite and _is_of_another(place, results[0])
        paths = [numbered(place) if beside else place]
    else:
        names = [(result["label"], result["kind"]) for result in results]
        paths = numbered_files(path, names, lambda place, index: _is_of_another(place, results[index]))
    try:
        for place, result in zip(paths, results, strict=True):
            write_result(place, result)
    except OSError as error:
        raise ConfigError(f"the results cannot be written to {path}: {error.strerror or error}; give --out") from error
    if beside:
        raise ConfigError(
            f"--out {path} exists and is a result of other files or settings, so it was kept; this result is in "
            f"{path.with_name(paths[0].name)}; give --overwrite to replace a file"
        )
    return paths


def results_folder(out: Path | None) -> Path:
    """Return the folder that the results go to."""
    path = out or Path(_FOLDER)
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


def is_of_others(path: Path, records: Sequence[Mapping[str, Any]], *parts: str) -> bool:
    """Return whether there is something else in a place than these records.

    Args:
        path: The place.
        records: Plain values, as a file of JSON has them.
        parts: Names of what may differ.
    """

    def compared(rows: Any) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name not in parts} for row in rows]

    if not os.path.lexists(path):
        return False
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return True
        return compared(json.loads(path.read_text(encoding="utf-8"))) != compared(json.loads(json.dumps(records)))
    except (OSError, ValueError, RecursionError, TypeError, AttributeError):
        return True


def _is_of_another(path: Path, result: dict[str, Any]) -> bool:
    """Return whether there is something else in a place than an earlier form of a result."""
    if not os.path.lexists(path):
        return False
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return True
        found = read_result(path)
    except (OSError, DataError):
        return True
    # As JSON gives it back.
    mine = json.loads(json.dumps(result))
    if any(found[part] != mine[part] for part in ("kind", "label")):
        return True
    return any(found["provenance"].get(part) != mine["provenance"][part] for part in ("inputs", "settings", "seed"))
