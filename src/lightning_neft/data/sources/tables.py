"""Datasets of the datasets library, and folders that it has written with `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from lightning_neft.data.sources.records import Record, Records
from lightning_neft.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from datasets import Dataset

__all__ = [
    "PARQUET",
    "TableRecords",
    "is_saved_dataset",
    "open_saved",
    "parquet_count",
    "parquet_records",
    "unknown_split",
]

PARQUET = b"PAR1"
_BATCH = 1000


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
            raise _unreadable_value(self.name, error) from error

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


def parquet_records(path: Path) -> Iterator[tuple[Record, str]]:
    """Yield each row with "PATH, row N".

    Raises:
        DataError: If the file is broken, has no row, or holds a value that Python has no type for.
    """
    number = 0
    with _opened_parquet(path) as file:
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}, row {number}"
        expected = file.metadata.num_rows
    if number != expected:
        raise DataError(
            f"{path}: broken Parquet file ({number} rows, but its footer says {expected}); write or download it again"
        )
    if not number:
        raise DataError(f"{path} holds no row: it has no sample to train on")


def parquet_count(path: Path) -> int:
    """Return the number of rows, which stands in the file's footer."""
    with _opened_parquet(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _opened_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: broken Parquet file ({reason}); write or download it again") from error
    # Names that are not UTF-8, and values that Python has no type for.
    except (ValueError, OverflowError, LookupError) as error:
        raise _unreadable_value(str(path), error) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _unreadable_value(name: str, error: Exception) -> DataError:
    """Return the error about a table with a value that Python has no type for: a date in the year 300,000, say.

    Args:
        name: What to call the table.
        error: What Arrow raised.
    """
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return DataError(
        f"{name} holds a name or a value that cannot be read, such as text that is not UTF-8, or a date after the year "
        f"9999 ({reason}); write it again without that column"
    )
