"""Read Parquet files batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_neft.data.sources.records import Record, unreadable_value
from lightning_neft.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["PARQUET", "parquet_count", "parquet_records"]

PARQUET = b"PAR1"
_BATCH = 1000


def parquet_records(path: Path) -> Iterator[tuple[Record, str]]:
    """Yield each row with "PATH, row N".

    Raises:
        DataError: If the file is broken, has no row, or holds a value that Python has no type for.
    """
    number = 0
    with _opened(path) as file:
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
    with _opened(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
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
        raise unreadable_value(str(path), error) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
