"""Errors that a bool on a device tells of, raised without waiting for the device where batches follow each other."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neft.errors import NEFTError

__all__ = ["LateErrors"]

# Batches between two copies of the bools to the CPU.
_EVERY = 64


class LateErrors:
    """Bools of several batches, each with the error that it stands for.

    On the CPU an error comes at once. On another device the bools of all batches are joined there; every 64 batches
    they are copied without waiting, and the copy before is read.
    """

    def __init__(self) -> None:
        self._flags: dict[type[NEFTError], tuple[Tensor, NEFTError]] = {}
        self._copies: list[tuple[Tensor, NEFTError]] = []
        self._copied: torch.Event | None = None
        self._batches = 0

    def add(self, flag: Tensor, error: NEFTError) -> None:
        """Take in a bool scalar.

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
            NEFTError: That of a batch some time ago.
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
            NEFTError: That of any batch since the last time.
        """
        flags = self._flags
        self.forget()
        for flag, error in flags.values():
            if flag:
                raise error

    def forget(self) -> None:
        """Drop what is not read yet."""
        self._flags, self._copies, self._copied = {}, [], None

    def _raise_copied(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()
        for flag, error in self._copies:
            if flag:
                self.forget()
                raise error
