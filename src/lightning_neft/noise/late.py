"""Errors that depend on a bool on a device, raised without waiting for the device between batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError, NEFTError
from lightning_neft.noise.diagnosis import no_token
from lightning_neft.noise.lengths import TokenRows

__all__ = ["LateErrors", "flags_of"]

# Batches between two copies of the bools to the CPU.
_EVERY = 64


class LateErrors:
    """Bools of several batches, each with its error.

    On the CPU an error is raised at once. On another device the bools of all batches are joined there; every 64 batches
    they are copied without waiting, and the previous copy is read.
    """

    def __init__(self) -> None:
        self._flags: dict[type[NEFTError], tuple[Tensor, NEFTError]] = {}
        self._copies: list[tuple[Tensor, NEFTError]] = []
        self._copied: torch.Event | None = None
        self._batches = 0

    def add(self, flag: Tensor, error: NEFTError) -> None:
        """Add a bool scalar.

        Raises:
            NEFTError: `error`, if the bool is True and on the CPU.
        """
        if flag.device.type == "cpu":
            if flag:
                raise error
            return
        before = self._flags.get(type(error))
        self._flags[type(error)] = (flag if before is None else before[0].to(flag.device) | flag, error)

    def end_batch(self) -> None:
        """End a batch.

        Raises:
            NEFTError: The error of an earlier batch.
        """
        self._batches += 1
        if self._flags and self._batches % _EVERY == 0:
            self._raise_copied()
            device = next(iter(self._flags.values()))[0].device
            self._copies = [(flag.to("cpu", non_blocking=True), error) for flag, error in self._flags.values()]
            self._copied = torch.Event(device)
            self._copied.record()

    def settle(self) -> None:
        """Wait for the device.

        Raises:
            NEFTError: The error of a batch since the last call.
        """
        flags = self._flags
        self.forget()
        for flag, error in flags.values():
            if flag:
                raise error

    def forget(self) -> None:
        """Drop the bools that were not read."""
        self._flags, self._copies, self._copied = {}, [], None

    def _raise_copied(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()
        for flag, error in self._copies:
            if flag:
                self.forget()
                raise error


def flags_of(rows: Sequence[TokenRows], source: str, scope: str, step: int) -> list[tuple[Tensor, NEFTError]]:
    """What may be wrong with the rows of a batch: bools on their device, each with its error.

    Args:
        rows: The rows.
        source: The fields that they were read from, for messages.
        scope: The tokens that get noise.
        step: Number of the training batch.
    """
    if not rows:
        return []
    selects = rows[0].weight.any()
    for row in rows[1:]:
        selects = selects | row.weight.any().to(selects.device)
    flags: list[tuple[Tensor, NEFTError]] = [(~selects, no_token(source, step, scope))]
    for row in rows:
        if row.doubt is not None:
            flag, reason = row.doubt
            flags.append((flag, LengthsError(f"{row.source} in training batch {step} {reason}")))
    return flags
