"""Open a source of data by its name: toy data, catalogue, file, folder, pattern or hub."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import get_args

from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.paths import is_address, user_path
from lightning_neft.data.catalogue import CatalogueEntry, catalogue, find_entry
from lightning_neft.data.sources.files import FileRecords, is_pattern, matching_files
from lightning_neft.data.sources.hub import fetch, open_hub
from lightning_neft.data.sources.records import Records
from lightning_neft.data.sources.tables import is_saved_dataset, open_saved, unknown_split
from lightning_neft.data.toy import TOY, Split, ToyRecords
from lightning_neft.errors import DataError

__all__ = ["TOY", "local_files", "open_source"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILE = re.compile(r"\.(jsonl?|csv|tsv|parquet|txt|arrow|ndjson|gz|zip|zst|xz|bz2)$", re.IGNORECASE)


def open_source(
    source: str,
    *,
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    columns: Collection[str] = (),
) -> Records:
    """Open a source and read its first record, so that errors occur before any work.

    Args:
        source: In this order: `toy`; a name of the catalogue; a file, or a folder written by `save_to_disk`; a glob
            pattern of files; the id of a dataset on the hub, "owner/name".
        split: Split of a source that has several: `train` by default, `train` or `held_out` for `toy`.
        subset: Configuration of a dataset on the hub.
        revision: Branch, tag or commit of a dataset on the hub.
        streaming: Whether to stream a dataset of the hub, and never to count. Files are always read piece by piece.
        columns: Columns that are asked for by name. `toy` has its column `kind` only then.

    Raises:
        DataError: If there is no such source, or its first record cannot be read.

    Example:
        >>> records = open_source("toy", split="held_out")
        >>> records.columns, records.size
        (('instruction', 'input', 'output'), 240)
    """
    records = _open(source, split, subset, revision, streaming, columns)
    _ = records.first
    return records


def local_files(source: str) -> list[Path]:
    """Return the local files of a source; none for `toy`, the catalogue and the hub."""
    path = user_path(source, "data.source")
    if not source or source == TOY or find_entry(source) or path.is_dir():
        return []
    if path.exists():
        return [path]
    return matching_files(str(path)) if is_pattern(source) else []


def _open(
    source: str,
    split: str | None,
    subset: str | None,
    revision: str | None,
    streaming: bool,
    columns: Collection[str],
) -> Records:
    if entry := find_entry(source):
        return _open_entry(entry, split, subset, revision, streaming)
    path = user_path(source, "data.source")
    # An empty name would be the current folder.
    if not source or is_address(source) or not (source == TOY or path.exists() or is_pattern(source)):
        if _HUB_ID.fullmatch(source) and not _FILE.search(source) and not source.startswith("."):
            return open_hub(source, subset=subset, split=split, revision=revision, streaming=streaming)
        raise DataError(_unknown(source))
    for name, value in (("subset", subset), ("revision", revision)):
        if value is not None:
            raise DataError(f"{source} has no {name}; only datasets of the hub have one, so omit data.{name}")
    if source == TOY:
        return _open_toy(split, columns)
    if path.is_dir():
        if is_saved_dataset(path):
            return open_saved(path, split)
        raise DataError(f"{source} is a folder; give a file in it, or a pattern such as '{path}/*.jsonl'")
    if split is not None:
        raise DataError(f"{source} has no splits, got {split!r}; omit it")
    if not path.exists():
        return FileRecords(matching_files(str(path)), source, streaming)
    if not path.is_file():
        raise DataError(f"{source} is not a regular file and cannot be read twice; save its content to a file")
    return FileRecords([path], source, streaming)


def _open_toy(split: str | None, columns: Collection[str]) -> ToyRecords:
    splits = get_args(Split)
    if split is not None and split not in splits:
        raise unknown_split(TOY, split, list(splits))
    return ToyRecords("held_out" if split == "held_out" else "train", has_kind="kind" in columns)


def _open_entry(
    entry: CatalogueEntry, split: str | None, subset: str | None, revision: str | None, streaming: bool
) -> Records:
    split = split or entry.split
    is_web = entry.source.startswith("https://")
    if (subset and entry.files) or (revision and is_web):
        wrong = "revision" if revision and is_web else "subset"
        raise DataError(f"{entry.name} has no {wrong} to choose; omit data.{wrong}")
    if not entry.files:
        return open_hub(
            entry.source, subset=subset or entry.subset, split=split, revision=revision, streaming=streaming
        )
    if split not in entry.files:
        raise unknown_split(entry.name, split, list(entry.files))
    return FileRecords([fetch(entry.source, entry.files[split], revision)], entry.name, streaming)


def _unknown(source: str) -> str:
    if is_address(source):
        return f"{source} is a web address, which cannot be read; download the file and give its path"
    if "/" in source or "\\" in source or _FILE.search(source):
        return f"{source} does not exist (looked in {Path.cwd()}); give the path of a file, or {TOY}"
    names = [TOY, *catalogue()]
    hint = did_you_mean(source.lower(), names)
    hint = f"{hint} " if hint else ""
    return (
        f"{source!r} is neither a file (looked in {Path.cwd()}) nor a catalogue name; {hint}give a file, a "
        f"pattern, the id of a dataset on the hub (owner/name), or one of {', '.join(names)}"
    )
