"""Where results are written: `--out`, or a file in the folder results, named by model and kind."""

from __future__ import annotations

import json
import os
import re
import stat
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from lightning_neft.common.files import write_text
from lightning_neft.common.paths import check_output, file_in_the_way, numbered
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.evaluation.result import read_result, write_result

__all__ = ["check_not_read", "check_out", "results_folder", "write_records", "write_results"]

_FOLDER = "results"


def check_out(out: Path | None, kind: str, options: Namespace) -> None:
    """Check before the work that the results can be written.

    Args:
        out: Value of `--out`: a file that ends in .json, or a folder.
        kind: Kind of the result.
        options: Options of the command line; `inputs` are the files that it reads.

    Raises:
        ConfigError: Another file or folder is in the way.
    """
    path = out or Path(_FOLDER)
    if _is_file(path):
        if path.is_dir():
            raise ConfigError(f"--out {out} is a folder; give a file, or a folder whose name does not end in .json")
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
                    f"--out {out} exists and is a result of kind {found}, not {kind}; give another name, or --overwrite"
                )
    if blocking := file_in_the_way(results_folder(out)):
        raise ConfigError(f"--out {path}: {blocking} is a file; give another name")


def check_not_read(options: Namespace, files: Iterable[Path]) -> None:
    """Check that the results do not replace input files that became known after the command line was parsed.

    Raises:
        ConfigError: They would.
    """
    if options.out is not None and _is_file(options.out):
        check_output(options.out, "--out", files)


def write_results(results: Sequence[dict[str, Any]], options: Namespace) -> list[Path]:
    """Write each result to a file and return the files.

    A result replaces an earlier one only if that was made from the same files with the same settings. Otherwise it gets
    the next number in a folder; a file in `--out` is then replaced only with `--overwrite`.

    Raises:
        ConfigError: There are several results for one file, or they cannot be written, or the file contains another
            result: then the new one is in a file next to it.
    """
    path = options.out or Path(_FOLDER)
    beside = False
    if _is_file(path):
        if len(results) > 1:
            raise ConfigError(f"--out {path}: there are {len(results)} results; give a folder")
        place = check_output(path, "--out", options.inputs)
        beside = not options.overwrite and _is_of_another(place, results[0])
        paths = [numbered(place) if beside else place]
    else:
        names = [(result["label"], result["kind"]) for result in results]
        paths = _numbered_files(path, names, lambda place, index: _is_of_another(place, results[index]))
    try:
        for place, result in zip(paths, results, strict=True):
            write_result(place, result)
    except OSError as error:
        raise ConfigError(f"the results cannot be written to {path}: {error.strerror or error}; give --out") from error
    if beside:
        raise ConfigError(
            f"--out {path} is a result of other files or settings, so it was kept; the new result is in "
            f"{path.with_name(paths[0].name)}; add --overwrite to replace it"
        )
    return paths


def results_folder(out: Path | None) -> Path:
    """Return the folder that the results go to."""
    path = out or Path(_FOLDER)
    return path.parent if _is_file(path) else path


def write_records(
    folder: Path, names: Sequence[tuple[str, str]], records: Sequence[Sequence[Mapping[str, Any]]], *varying: str
) -> list[Path]:
    """Write lists of records, each to a JSON file; a file with other records is kept, and the next number used.

    Args:
        folder: The folder.
        names: Name and kind of each file.
        records: The records of each file.
        varying: Keys whose values may differ from those in a file that is replaced.

    Raises:
        ConfigError: A file cannot be written.
    """
    paths = _numbered_files(folder, names, lambda place, index: _is_of_others(place, records[index], varying))
    try:
        for path, rows in zip(paths, records, strict=True):
            write_text(path, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}; give --out") from error
    return paths


def _numbered_files(
    folder: Path, names: Sequence[tuple[str, str]], is_taken: Callable[[Path, int], bool]
) -> list[Path]:
    """Return a file for each name and kind, with a number if the file is taken: by index, or by an earlier name."""
    paths: list[Path] = []
    for index, (name, kind) in enumerate(names):
        # The name of a model may be a path.
        label = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
        files = (folder / f"{label}-{kind}{number}.json" for number in chain([""], map("-{}".format, count(2))))
        paths.append(next(file for file in files if file not in paths and not is_taken(file, index)))
    return paths


def _is_file(path: Path) -> bool:
    return path.suffix == ".json"


def _is_other(path: Path, is_same: Callable[[], bool]) -> bool:
    """Return whether a path exists and is not a file that a function recognises."""
    if not os.path.lexists(path):
        return False
    try:
        return not (stat.S_ISREG(path.lstat().st_mode) and is_same())
    except (OSError, DataError, ValueError, RecursionError, TypeError, AttributeError):
        return True


def _is_of_others(path: Path, records: Sequence[Mapping[str, Any]], varying: Sequence[str]) -> bool:
    """Return whether a path exists and is not a file of these records."""

    def compared(rows: Any) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name not in varying} for row in rows]

    mine = compared(json.loads(json.dumps(records)))
    return _is_other(path, lambda: compared(json.loads(path.read_text(encoding="utf-8"))) == mine)


def _is_of_another(path: Path, result: dict[str, Any]) -> bool:
    """Return whether a path exists and is not an earlier version of a result."""

    def compared(found: dict[str, Any]) -> list[Any]:
        source = found["provenance"]
        return [found["kind"], found["label"], *(source.get(part) for part in ("inputs", "settings", "seed"))]

    mine = compared(json.loads(json.dumps(result)))
    return _is_other(path, lambda: compared(read_result(path)) == mine)
