"""Datasets of the datasets library, and folders that it has written with `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from lightning_neft.data.sources.records import Record, Records, unreadable_value
from lightning_neft.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["TableRecords", "is_saved_dataset", "open_saved", "unknown_split"]


class TableRecords(Records):
    """The rows of a `datasets.Dataset`, memory-mapped where it is.

    Args:
        name: What to call it; rows are "NAME, row N".
        dataset: The rows.
    """

    def __init__(self, name: str, dataset: Dataset) -> None:
        super().__init__(name)
        self._dataset = dataset

    @override
    def __iter__(self) -> Iterator[tuple[Record, str]]:
        try:
            for number, row in enumerate(self._dataset, start=1):
                yield row, f"{self.name}, row {number}"
        except (ValueError, OverflowError, LookupError) as error:
            raise unreadable_value(self.name, error) from error

    @property
    @override
    def fingerprint(self) -> str:
        """The fingerprint that the datasets library keeps with the data."""
        return str(self._dataset._fingerprint)

    @override
    def _count(self) -> int:
        return len(self._dataset)


def is_saved_dataset(folder: Path) -> bool:
    """Return whether a folder was written by `save_to_disk` of a Dataset or a DatasetDict."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved(folder: Path, split: str | None = None) -> TableRecords:
    """Open a folder that `save_to_disk` has written.

    Args:
        folder: The folder.
        split: Which split of a DatasetDict, `train` by default.

    Raises:
        DataError: If it cannot be read, has no such split, or a split is given where there are none.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    # Whatever is missing or cut, the library and Arrow raise as errors of these kinds.
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{folder} cannot be read as a saved dataset: {reason}; save it again") from error
    if isinstance(dataset, DatasetDict):
        name = split or "train"
        if name not in dataset:
            raise unknown_split(str(folder), name, list(dataset))
        return TableRecords(str(folder) if name == "train" else f"{folder} ({name})", dataset[name])
    if split is not None and split != str(dataset.split):
        raise DataError(f"{folder} is a dataset without splits, so there is no split {split!r}; omit it")
    return TableRecords(str(folder), dataset)


def unknown_split(name: str, split: str, splits: list[str]) -> DataError:
    """Return the error about a split that a source does not have."""
    near = get_close_matches(split, splits, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return DataError(f"{name} has no split {split!r}; {hint}choose one of {', '.join(splits)}")
