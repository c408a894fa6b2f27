"""What every module of a model was given and returned in one forward pass, taken down by hooks of the tests' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """The tensors of one call of a module."""

    inputs: list[Tensor]
    outputs: list[Tensor]


Recording = dict[str, list[Call]]


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recording]:
    """Take down every call of every module while inside; hooks that were there before have had their say."""
    recording: Recording = {}
    handles = [
        module.register_forward_hook(_taker(recording, name), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        yield recording
    finally:
        for handle in handles:
            handle.remove()


def _taker(recording: Recording, name: str) -> Callable[..., None]:
    def take(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = Call(list(_tensors((args, kwargs))), list(_tensors(output)))
        recording.setdefault(name, []).append(call)

    return take


def _tensors(value: Any) -> Iterator[Tensor]:
    """Copies of the tensors in nested containers; other objects, such as caches, are left out."""
    if isinstance(value, Tensor):
        yield value.detach().clone()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    """Bit-equal, not-a-number included."""
    return len(one) == len(other) and all(
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bits(a), _bits(b))
        for a, b in zip(one, other, strict=True)
    )


def _bits(tensor: Tensor) -> Tensor:
    integer = {8: torch.int64, 4: torch.int32, 2: torch.int16}.get(tensor.element_size())
    return tensor.view(integer) if integer is not None and tensor.is_floating_point() else tensor


def sources_of_change(clean: Recording, noisy: Recording) -> set[str]:
    """The modules at which two passes part: equal inputs, other outputs, and none inside them of which that is true."""
    parted = {
        name
        for name, calls in clean.items()
        for one, other in zip(calls, noisy.get(name, []), strict=False)
        if equal(one.inputs, other.inputs) and not equal(one.outputs, other.outputs)
    }
    return {name for name in parted if not any(inner != name and _is_below(inner, name) for inner in parted)}


def _is_below(inner: str, outer: str) -> bool:
    return not outer or inner.startswith(f"{outer}.")
