"""The few weights that a pass up to the first block needs, of a model that itself stays on the meta device.

A weight is read from the checkpoint, or initialised, when an operation uses it; of a large table only the rows that are
looked up. Loading a model of one layer with transformers instead reads whole tables: 2.4 GB for a 1B model in float32,
where this reads a few MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_neft.doctor.checkpoint import Checkpoint
from lightning_neft.errors import ModelError
from lightning_neft.noise.functional import mix_seed

__all__ = ["LazyWeights", "TooManyWeightsError", "initial_values"]

# Larger tables are read by rows.
_SMALL_TABLE = 1 << 22
# No pass up to the first block uses more: it has missed the block.
_MAX_ELEMENTS = 1 << 28

_Getter = Callable[..., Any]
_DEVICE: _Getter = torch.Tensor.device.__get__
# Properties that need no values.
_METADATA: set[_Getter] = {
    getattr(torch.Tensor, name).__get__ for name in ("shape", "dtype", "ndim", "requires_grad", "is_leaf", "layout")
} | {torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.is_floating_point}


class TooManyWeightsError(Exception):
    """A forward pass used more weights than one that stops at the first block can need."""


class LazyWeights(TorchFunctionMode):
    """Replaces a model's weights by their values for the operations inside its `with` block.

    Args:
        model: A model on the meta device.
        checkpoint: Source of the weights; None for the model's own initialisation.
        may_grow: Whether the run may add rows to the tables, so that an id beyond a table is no error. Such rows are
            zero here; the run initialises them to the mean of the others, or to small values.

    Attributes:
        elements: Number of elements read or initialised so far.
        missing: Names of the parameters that were used but are not in the checkpoint: they were initialised.
        beyond: Ids beyond a table that may grow.

    >>> from lightning_neft.doctor.subject import build_skeleton
    >>> from lightning_neft.hub.base_config import load_base_config
    >>> model = build_skeleton(load_base_config("tiny"), "tiny", torch.float32)
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
        # Buffers outside the state dict are computed by the model.
        self._stored = set(model.state_dict())
        self._values: dict[int, Tensor] = {}
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func == _DEVICE and self._is_weight(args[0]):
            return torch.device("cpu")
        if func in _METADATA:
            return func(*args, **kwargs)
        if func is F.embedding and self._is_table(args[1]):
            numbers, rows = self._look_up(self._real(args[0]), args[1])
            # padding_idx affects gradients only.
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
        """Return the index of each id among the rows read so far, and these rows."""
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
        if self.elements > _MAX_ELEMENTS:
            raise TooManyWeightsError
        value = self._from_checkpoint(weight, rows)
        if value is None:
            value = initial_values(self._model, weight, rows)
        if value is None:
            raise ModelError(
                f"{self._names[id(weight)][0]} is neither in the checkpoint nor initialised by "
                f"{type(self._model).__name__}; measure it with lightning_neft.noise.probe on the loaded model"
            )
        return value.to(weight.dtype)

    def _from_checkpoint(self, weight: Tensor, rows: Tensor | None) -> Tensor | None:
        names = [name for name in self._names[id(weight)] if name in self._stored]
        if self._checkpoint is None or not names:
            return None
        name = self._checkpoint.find(names, self._stored - set(names))
        if name is None:
            # Untrained parameters, such as a table of sines, need not be stored.
            if isinstance(weight, nn.Parameter) and weight.requires_grad and names[0] not in self.missing:
                self.missing.append(names[0])
            return None
        return self._checkpoint.read(name, weight.shape, rows)


def initial_values(model: nn.Module, weight: Tensor, rows: Tensor | None = None) -> Tensor | None:
    """Initialise one weight on the CPU as its model does; the model is left unchanged.

    Args:
        model: A model of transformers on the meta device.
        weight: A parameter or buffer of it.
        rows: int64 (n,), the rows to initialise; None for the whole weight.

    Returns:
        A tensor of the weight's dtype, the same for each call, or None if the model does not initialise the weight.

    >>> from lightning_neft.doctor.subject import build_skeleton
    >>> from lightning_neft.hub.base_config import load_base_config
    >>> model = build_skeleton(load_base_config("tiny"), "tiny", torch.float32)
    >>> rows = initial_values(model, model.get_input_embeddings().weight, torch.arange(50))
    >>> rows.shape, round(rows.std().item(), 2)
    (torch.Size([50, 128]), 0.02)
    """
    shape = weight.shape if rows is None else (len(rows), *weight.shape[1:])
    made = torch.zeros(shape, dtype=weight.dtype)
    untouched = made._version
    with _in_place_of(model, weight, made) as holders, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(mix_seed(*weight.shape, *([] if rows is None else rows.tolist())))
        for module, owner in _to_initialise(model, holders):
            owner._init_weights(module)
    # Each in-place operation increments the version of its tensor.
    return made if made._version != untouched else None


@contextmanager
def _in_place_of(model: nn.Module, weight: Tensor, made: Tensor) -> Iterator[set[nn.Module]]:
    """Replace a weight by another tensor for the duration of the block; yields the modules that hold it."""
    places = [
        (module, name)
        for module in model.modules()
        for name, held in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        if held is weight
    ]
    # A tied output layer takes over the values of the embedding, so its own initialisation does not count.
    head_of: Any = getattr(model, "get_output_embeddings", None)
    head = head_of() if head_of is not None else None
    places = [(module, name) for module, name in places if module is not head] or places
    replacement: Any = nn.Parameter(made, requires_grad=False) if isinstance(weight, nn.Parameter) else made
    holders = {module for module, _ in places}
    # Row numbers differ here, and the row of the padding token, which gets no noise, may be as random as the others.
    padding = {module: module.padding_idx for module in holders if isinstance(module, nn.Embedding)}
    try:
        for module, name in places:
            setattr(module, name, replacement)
        for module in padding:
            module.padding_idx = None
        yield holders
    finally:
        for module, name in places:
            setattr(module, name, weight)
        for module, index in padding.items():
            module.padding_idx = index


def _to_initialise(model: nn.Module, holders: set[nn.Module]) -> list[tuple[nn.Module, Any]]:
    """Return the modules whose initialisation may set the weight, inner ones first, each with the model that does it.

    A model may initialise a weight at the module that holds it or at any module around that one.
    """
    modules: list[tuple[nn.Module, Any]] = []

    def walk(module: nn.Module, owner: Any) -> bool:
        owner = module if hasattr(module, "_init_weights") else owner
        inside = [walk(child, owner) for child in module.children()]
        concerned = module in holders or any(inside)
        if concerned and owner is not None:
            modules.append((module, owner))
        return concerned

    walk(model, None)
    return modules
