"""Arrow tables: datasets of the datasets library, folders written by `save_to_disk`, and Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from lightning_neft.common.near_names import did_you_mean
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
    """The rows of a `datasets.Dataset`.

    Args:
        name: Name in messages; rows are "NAME, row N".
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
        """The fingerprint that the datasets library stores with the data."""
        return str(self._dataset._fingerprint)

    @override
    def _count(self) -> int:
        return len(self._dataset)


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `save_to_disk` of a Dataset or a DatasetDict wrote a folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved(folder: Path, split: str | None = None) -> TableRecords:
    """Open a folder that `save_to_disk` wrote.

    Args:
        folder: The folder.
        split: Which split of a DatasetDict, `train` by default.

    Raises:
        DataError: If it cannot be read, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    # For missing or truncated files, the library and Arrow raise errors of these kinds.
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
    hint = did_you_mean(split, splits)
    return DataError(f"{name} has no split {split!r}; {f'{hint} ' if hint else ''}choose one of {', '.join(splits)}")


def parquet_records(path: Path) -> Iterator[tuple[Record, str]]:
    """Yield each row with "PATH, row N".

    Raises:
        DataError: If the file is broken, has no row, or contains a value without a Python type.
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
            f"{path}: broken Parquet file ({number} rows, but its footer states {expected}); write or download it again"
        )
    if not number:
        raise DataError(f"{path} has no row, so there is no sample to train on; give another file")


def parquet_count(path: Path) -> int:
    """Return the number of rows in the file's footer."""
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
    # Names that are not UTF-8, and values without a Python type.
    except (ValueError, OverflowError, LookupError) as error:
        raise _unreadable_value(str(path), error) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _unreadable_value(name: str, error: Exception) -> DataError:
    """Return the error about a table with a value without a Python type, such as a date in the year 300,000.

    Args:
        name: Name of the table.
        error: The error of Arrow.
    """
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return DataError(
        f"{name} contains a name or a value that cannot be read, such as text that is not UTF-8, or a date after the "
        f"year 9999 ({reason}); write it again without that column"
    )
