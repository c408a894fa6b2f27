"""What streaming does not go with."""

from __future__ import annotations

from lightning_neft.data.batching.plan import Batching
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import ConfigError

__all__ = ["check_options", "micro_batch_limit"]


def check_options(task: Task, batching: Batching, num_workers: int, val_size: int | float) -> None:
    """Refuse options of the data that do not go with streaming.

    Raises:
        ConfigError: At the first one.
    """
    if task == "sequence_classification":
        raise ConfigError("data.streaming: the classes are not known before all data are read; leave streaming out")
    if batching not in ("random", "length_grouped"):
        raise ConfigError(f"data.streaming goes with data.batching=random or length_grouped, got {batching}")
    if num_workers > 1:
        raise ConfigError(
            f"data.streaming: one process reads the source, so data.num_workers is 0 or 1, got {num_workers}"
        )
    if val_size and not isinstance(val_size, int):
        raise ConfigError(
            f"data.streaming: data.val_size={val_size!r} is a share of a number that is not known; give a count of "
            "records (the first ones are held out), 0 for none, or data.val_split"
        )


def micro_batch_limit(limit: int | float) -> int | None:
    """Return the most micro-batches of an epoch under Lightning's limit_train_batches, None for all.

    Raises:
        ConfigError: If it is a share.

    Example:
        >>> micro_batch_limit(7), micro_batch_limit(1.0)
        (7, None)
    """
    if isinstance(limit, int):
        return limit
    if limit not in (0.0, 1.0):
        raise ConfigError(
            f"data.streaming: trainer.limit_train_batches={limit!r} is a share of a number that is not known; give a "
            "count of batches"
        )
    return None
