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

    On the CPU an error is raised at once. On another device the bools of 64 batches are stacked there and copied
    without waiting; they are read when the next 64 are copied.
    """

    def __init__(self) -> None:
        self._flags: list[tuple[Tensor, NEFTError]] = []
        self._copy: tuple[Tensor, list[NEFTError], torch.Event] | None = None
        self._batches = 0

    def add(self, flag: Tensor, error: NEFTError) -> None:
        """Add a bool scalar.

        Raises:
            NEFTError: `error`, if the bool is True and on the CPU.
        """
        if flag.device.type != "cpu":
            # A copy: a CUDA graph reuses the memory of what it returns.
            self._flags.append((flag.clone(), error))
        elif flag:
            raise error

    def end_batch(self) -> None:
        """End a batch.

        Raises:
            NEFTError: The first error of the batches that were copied before.
        """
        self._batches += 1
        if self._flags and self._batches % _EVERY == 0:
            self._raise_copied()
            flags, errors = self._stacked()
            copied = torch.Event(flags.device)
            self._copy = flags.to("cpu", non_blocking=True), errors, copied
            copied.record()

    def settle(self) -> None:
        """Wait for the device.

        Raises:
            NEFTError: The first error since the last call.
        """
        try:
            self._raise_copied()
            if self._flags:
                flags, errors = self._stacked()
                _raise_first(flags.to("cpu"), errors)
        finally:
            self.forget()

    def forget(self) -> None:
        """Drop the bools that were not read."""
        self._flags, self._copy = [], None

    def _stacked(self) -> tuple[Tensor, list[NEFTError]]:
        flags, errors = [flag for flag, _ in self._flags], [error for _, error in self._flags]
        self._flags = []
        return torch.stack([flag.to(flags[0].device, non_blocking=True) for flag in flags]), errors

    def _raise_copied(self) -> None:
        if self._copy is not None:
            flags, errors, copied = self._copy
            self._copy = None
            copied.synchronize()
            _raise_first(flags, errors)


def _raise_first(flags: Tensor, errors: Sequence[NEFTError]) -> None:
    for is_wrong, error in zip(flags.tolist(), errors, strict=True):
        if is_wrong:
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
