"""`Fingerprint`: proof that two arms saw the same batches in the same order, starting from the same weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_neft.evaluation.study_result import ArmResult

__all__ = ["Fingerprint", "unpaired"]

# Odd, so that no bit is lost in the products, which wrap around at 2 ** 64.
_STEP, _PLACE = 6364136223846793005, 2862933555777941757
_SEEN = ("input_ids", "labels")


class Fingerprint(pl.Callback):
    """Keeps a running checksum of the training batches, and one of the trainable weights before the first batch.

    Both are integers modulo 2 ** 64, computed on the device without synchronising. They are saved in the checkpoint, so
    a resumed run ends with those of the uninterrupted one. Each rank keeps its own.

    >>> Fingerprint().digests()
    {'data': '0000000000000000', 'weights': None}
    """

    def __init__(self) -> None:
        # A tensor, because its products wrap around.
        self._data = torch.zeros((), dtype=torch.int64)
        self._weights: int | None = None

    def digests(self) -> dict[str, str | None]:
        """Return both as hexadecimal digits; those of the weights are None before the training."""
        weights = None if self._weights is None else _hex(self._weights)
        return {"data": _hex(int(self._data)), "weights": weights}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._weights is None:
            trained = (weight for weight in pl_module.parameters() if weight.requires_grad)
            self._weights = sum(_sum_of_bytes(weight.detach()) for weight in trained)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for name in _SEEN:
            if isinstance(batch.get(name), Tensor):
                self._data = _checksum(batch[name]) + self._data.to(batch[name].device) * _STEP

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"data": int(self._data), "weights": self._weights}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._data, self._weights = torch.tensor(state_dict["data"]), state_dict["weights"]


def unpaired(arm: ArmResult, others: Iterable[ArmResult]) -> str | None:
    """Return why an arm is not paired with another one of its seed; None if it is paired with all of them.

    Args:
        arm: A complete arm.
        others: The other complete arms.
    """
    for other in others:
        if other.seed != arm.seed:
            continue
        for what, name in (("training batches", "data"), ("weights at the start", "weights")):
            mine, theirs = arm.digests.get(name), other.digests.get(name)
            if mine != theirs:
                return (
                    f"not a pair with alpha {other.alpha:g}: its {what} are not the same "
                    f"(checksums {mine} and {theirs}); were data, versions or devices changed in between?"
                )
    return None


def _checksum(values: Tensor) -> Tensor:
    """Return an int64 scalar that depends on the values, their order and their number."""
    flat = values.reshape(-1).to(torch.int64)
    places = torch.arange(1, len(flat) + 1, device=flat.device) * _PLACE
    return ((flat + 2**31) * places).sum()


def _sum_of_bytes(weight: Tensor) -> int:
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return int(local.contiguous().view(-1).view(torch.uint8).sum(dtype=torch.int64))


def _hex(value: int) -> str:
    return f"{value % 2**64:016x}"
