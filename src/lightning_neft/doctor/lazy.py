"""Weights that are read when an operation asks for them, of a model that is on the meta device.

A forward pass that stops at the first block so needs the rows of the embedding that the batch names, and the few small
tensors between the two; the model itself stays without weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_neft.doctor.checkpoint import Checkpoint
from lightning_neft.doctor.initial import initial_values
from lightning_neft.errors import ModelError

__all__ = ["LazyWeights", "TooManyWeightsError"]

# Of a larger table only the rows that are looked up are read.
_SMALL_TABLE = 1 << 22
# What a forward pass up to the first block has no use for: more than that, and it is not on its way there.
_MOST_ELEMENTS = 1 << 28

_Getter = Callable[..., Any]
_DEVICE: _Getter = torch.Tensor.device.__get__
# What is known without any values.
_ABOUT: set[_Getter] = {
    getattr(torch.Tensor, name).__get__ for name in ("shape", "dtype", "ndim", "requires_grad", "is_leaf", "layout")
} | {torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.is_floating_point}


class TooManyWeightsError(Exception):
    """A forward pass asked for more weights than one that stops at the first block can need."""


class LazyWeights(TorchFunctionMode):
    """Gives the operations inside its `with` block real values in place of a model's weights.

    Args:
        model: A model on the meta device.
        checkpoint: Where its weights are; None for the values that the model's own initialisation gives.
        may_grow: Whether the run may add rows to its tables, so that an id beyond one is none of its errors. Such rows
            are zero here: new ones are the mean of the others, or small.

    Attributes:
        elements: How many elements were read or made so far.
        missing: Names of the parameters that were asked for and are not in the checkpoint: they got initial values.
        beyond: Ids beyond a table that may grow.

    >>> from lightning_neft.doctor.skeleton import build_skeleton, load_config
    >>> model = build_skeleton(load_config("tiny"), "tiny", torch.float32)
    >>> with LazyWeights(model, checkpoint=None) as weights:
    ...     model.model.norm(torch.ones(1, 128)).shape
    torch.Size([1, 128])
    >>> weights.elements, model.model.norm.weight.device
    (128, device(type='meta'))
    """

    def __init__(self, model: nn.Module, checkpoint: Checkpoint | None, may_grow: bool = False) -> None:
        super().__init__()
        self.elements = 0
        self.missing: list[str] = []
        self.beyond: set[int] = set()
        self._may_grow = may_grow
        self._model = model
        self._checkpoint = checkpoint
        self._names: dict[int, list[str]] = {}
        for name, tensor in [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]:
            self._names.setdefault(id(tensor), []).append(name)
        # Buffers that are not part of a checkpoint are computed by the model.
        self._stored = set(model.state_dict())
        self._values: dict[int, Tensor] = {}
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func == _DEVICE and self._is_weight(args[0]):
            return torch.device("cpu")
        if func in _ABOUT:
            return func(*args, **kwargs)
        if func is F.embedding and self._is_table(args[1]):
            numbers, rows = self._look_up(self._real(args[0]), args[1])
            # The row of the padding token is special to gradients alone.
            return func(numbers, rows, **{**kwargs, "padding_idx": None})
        return func(*self._real(args), **self._real(kwargs))

    def _real(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._real(item) for key, item in value.items()}
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return type(value)(self._real(item) for item in value)
        return self._value(value) if self._is_weight(value) else value

    def _is_weight(self, value: Any) -> bool:
        return isinstance(value, Tensor) and id(value) in self._names

    def _is_table(self, value: Any) -> bool:
        return self._is_weight(value) and value.numel() > _SMALL_TABLE

    def _value(self, weight: Tensor) -> Tensor:
        if id(weight) not in self._values:
            self._values[id(weight)] = self._fetch(weight, None)
        return self._values[id(weight)]

    def _look_up(self, ids: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of a table that are known by now, and for each id the number of its row among them."""
        wanted: Tensor = torch.unique(ids)
        is_inside = (wanted >= 0) & (wanted < len(table))
        if not is_inside.all():
            if not self._may_grow:
                name = self._names[id(table)][0]
                raise IndexError(f"{name} has {len(table)} rows, the batch asks for number {int(wanted[-1])}")
            self.beyond |= set(wanted[~is_inside].tolist())
        known, rows = self._rows.get(id(table), (wanted[:0], table.new_empty(0, *table.shape[1:], device="cpu")))
        new = wanted[~torch.isin(wanted, known)]
        if len(new):
            fetched = rows.new_zeros(len(new), *table.shape[1:])
            is_inside = new < len(table)
            fetched[is_inside] = self._fetch(table, new[is_inside])
            known, order = torch.cat([known, new]).sort()
            rows = torch.cat([rows, fetched])[order]
            self._rows[id(table)] = known, rows
        return torch.searchsorted(known, ids.contiguous()), rows

    def _fetch(self, weight: Tensor, rows: Tensor | None) -> Tensor:
        self.elements += weight.numel() if rows is None else len(rows) * weight[0].numel()
        if self.elements > _MOST_ELEMENTS:
            raise TooManyWeightsError
        found = self._from_checkpoint(weight, rows)
        if found is None:
            found = initial_values(self._model, weight, rows)
        if found is None:
            raise ModelError(
                f"{self._names[id(weight)][0]} is neither in the checkpoint nor initialised by "
                f"{type(self._model).__name__}"
            )
        return found.to(weight.dtype)

    def _from_checkpoint(self, weight: Tensor, rows: Tensor | None) -> Tensor | None:
        names = [name for name in self._names[id(weight)] if name in self._stored]
        if self._checkpoint is None or not names:
            return None
        found = self._checkpoint.find(names, self._stored - set(names))
        if found is None:
            # What is not trained, such as a table of sines, need not be stored.
            if isinstance(weight, nn.Parameter) and weight.requires_grad and names[0] not in self.missing:
                self.missing.append(names[0])
            return None
        return self._checkpoint.read(found, weight.shape, rows)
