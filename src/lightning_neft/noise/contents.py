"""What a training batch holds, at any depth: its containers, and the values that are not containers."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError

__all__ = ["Contents", "Part"]

# Dicts, sequences and data classes inside each other; no real batch nests so deep.
_MAX_DEPTH = 32
# Objects of other classes inside each other: behind them a batch may hold its whole program.
_MAX_OBJECTS = 4
# Places from here on in a sequence are samples; in a tuple such as (ids, mask) each place has its own meaning.
_FIRST_SAMPLE = 4

_LEAVES = (type(None), Tensor, str, bytes, int, float, enum.Enum, type, torch.nn.Module)
# dict first: a check against the abstract class alone takes a Python call.
_MAPPINGS = (dict, Mapping)


class Part(NamedTuple):
    """A part of a batch.

    Attributes:
        name: Its name; empty in a sequence and behind a key that is not a string.
        path: The expression that gives it, starting from `batch`.
        value: The part itself.
        container_name: The name of the list or tuple that holds it; None if something else does.
        place: The path without the numbers of samples: equal in batches of one kind.
    """

    name: str
    path: str
    value: Any
    container_name: str | None = None
    place: str = "batch"


class Contents:
    """The parts of one batch, walked once, at first use.

    Understood are mappings, data classes (with slots too), attrs classes, named tuples, lists, tuples and other objects
    with attributes.

    Args:
        batch: The batch from the data loader.

    >>> [part.path for part in Contents({"a": [torch.ones(1)], 3: "text"}).leaves]
    ['batch[3]', "batch['a'][0]"]
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    @cached_property
    def containers(self) -> list[tuple[Part, list[Part]]]:
        """Each container and its parts; a container comes before those inside it, and comes once.

        Raises:
            LengthsError: The batch is nested too deep.
        """
        found: list[tuple[Part, list[Part]]] = []
        whole = Part("", "batch", self.batch)
        if not isinstance(self.batch, _LEAVES):
            _walk(whole, 0, 0, set(), found)
        return found

    @cached_property
    def leaves(self) -> list[Part]:
        """All parts but the containers."""
        own = [Part("", "batch", self.batch)] if isinstance(self.batch, _LEAVES) else []
        return own + [part for _, parts in self.containers for part in parts if isinstance(part.value, _LEAVES)]

    @property
    def tensors(self) -> list[Part]:
        """The leaves that are dense tensors: neither sparse nor nested."""
        return [
            part
            for part in self.leaves
            if isinstance(part.value, Tensor) and part.value.layout == torch.strided and not part.value.is_nested
        ]


def _walk(whole: Part, depth: int, objects: int, seen: set[int], found: list[tuple[Part, list[Part]]]) -> None:
    value = whole.value
    if id(value) in seen or objects > _MAX_OBJECTS:
        return
    if depth > _MAX_DEPTH:
        raise LengthsError(
            f"the batch is nested deeper than {_MAX_DEPTH} levels ({whole.path[:60]}...): flatten it, or use "
            "length='padded', which does not read it."
        )
    seen.add(id(value))
    parts = list(_parts_of(whole))
    found.append((whole, parts))
    is_container = isinstance(value, (*_MAPPINGS, list, tuple)) or _is_data_class(value)
    for part in parts:
        if not isinstance(part.value, _LEAVES):
            _walk(part, depth + 1, objects + (not is_container), seen, found)


def _is_data_class(value: Any) -> bool:
    return dataclasses.is_dataclass(value) or hasattr(type(value), "__attrs_attrs__")


def _parts_of(whole: Part) -> Iterator[Part]:
    _, path, value, _, place = whole
    if isinstance(value, _MAPPINGS):
        for key, item in value.items():
            # As the batch's author would write it; the repr of an enum is not valid Python.
            written = str(key) if isinstance(key, enum.Enum) and not isinstance(key, str) else repr(key)
            kept = "" if type(key) is int and key >= _FIRST_SAMPLE else written
            yield Part(key if isinstance(key, str) else "", f"{path}[{written}]", item, None, f"{place}[{kept}]")
    elif hasattr(value, "_asdict"):
        for name, item in value._asdict().items():
            yield Part(name, f"{path}.{name}", item, None, f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            kept = str(index) if index < _FIRST_SAMPLE else ""
            yield Part("", f"{path}[{index}]", item, whole.name, f"{place}[{kept}]")
    else:
        for name, item in _attributes(value):
            yield Part(name, f"{path}.{name}", item, None, f"{place}.{name}")


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    # dataclass(slots=True) and attrs.define keep their fields in slots.
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if not slot.startswith("__") and hasattr(value, slot):
                yield slot, getattr(value, slot)
