"""`GlobalBatch`: batch size and accumulation from the rows of an optimiser step and the number of devices."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from lightning_neft.common.trainer import replicas
from lightning_neft.errors import ConfigError

__all__ = ["GlobalBatch", "split_batch"]


def split_batch(global_batch_size: int, ranks: int, most_rows: int) -> tuple[int, int]:
    """Return the rows of a micro-batch, and the micro-batches of an optimiser step.

    Args:
        global_batch_size: Rows of an optimiser step over all data-parallel ranks.
        ranks: Number of these.
        most_rows: Maximum rows of a micro-batch.

    Raises:
        ConfigError: If the rows cannot be divided evenly.

    Example:
        >>> split_batch(128, ranks=4, most_rows=16), split_batch(60, ranks=2, most_rows=16)
        ((16, 2), (15, 2))
    """
    each, rest = divmod(global_batch_size, ranks)
    if each == 0:
        raise ConfigError(
            f"global_batch_size={global_batch_size} is less than one row for each of the {ranks} data-parallel "
            f"processes; give {ranks} or more, or fewer trainer.devices"
        )
    if rest:
        raise ConfigError(
            f"global_batch_size={global_batch_size} cannot be divided evenly by {ranks} data-parallel processes; give "
            f"{each * ranks} or {(each + 1) * ranks}, or change trainer.devices"
        )
    rows = next(rows for rows in range(min(most_rows, each), 0, -1) if each % rows == 0)
    return rows, each // rows


class GlobalBatch(pl.Callback):
    """Sets the data's batch size and the Trainer's accumulation at the start of a fit, and logs both.

    Args:
        size: Rows of an optimiser step over all data-parallel ranks; a packed row holds several samples. The data's
            `batch_size` is the maximum of a micro-batch.

    Raises:
        ConfigError: If it is less than 1.

    >>> GlobalBatch(0)
    Traceback (most recent call last):
    ...
    lightning_neft.errors.ConfigError: global_batch_size must be 1 or more, got 0
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ConfigError(f"global_batch_size must be 1 or more, got {size!r}")
        self.size = size
        self._is_set = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Not earlier: with a device mesh the ranks are known only now.
        if stage != "fit" or self._is_set:
            return
        if trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                f"global_batch_size={self.size} sets trainer.accumulate_grad_batches, which is "
                f"{trainer.accumulate_grad_batches}; omit one of the two (--global_batch_size null)"
            )
        data = trainer.datamodule  # type: ignore[attr-defined]
        ranks = replicas(trainer)
        data.batch_size, trainer.accumulate_grad_batches = split_batch(self.size, ranks, data.batch_size)
        self._is_set = True
        rank_zero_info(
            f"global_batch_size {self.size} = {ranks} device{'s' if ranks > 1 else ''} x {data.batch_size} rows x "
            f"{trainer.accumulate_grad_batches} batches a step (trainer.accumulate_grad_batches)"
        )
