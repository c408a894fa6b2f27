"""Options that take a whole number or a fraction: `1` is one, not all."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import get_args

from jsonargparse import ArgumentParser

__all__ = ["read_whole_numbers_first"]


def read_whole_numbers_first(parser: ArgumentParser) -> None:
    """Let a parser read `1` as the `int` it is wherever an option takes a `float` too.

    The types of a union are tried in their order, and a float takes any number: `trainer.limit_predict_batches=1` would
    be 1.0, all batches. Lightning writes the `int` first in its Trainer and the `float` first in its Fabric. `typing`
    keeps the last unions that it made and gives out an equal one, so which of the two the Trainer has depends on what
    else was imported between.

    Args:
        parser: A parser whose options have been added.
    """
    for action in parser._actions:
        members = [*get_args(getattr(action, "_typehint", None))]
        if int in members and float in members:
            first, second = sorted((members.index(int), members.index(float)))
            members[first], members[second] = int, float
            # `Union[...]` could be the kept one again.
            action._typehint = reduce(or_, members)  # type: ignore[attr-defined]
