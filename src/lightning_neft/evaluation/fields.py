"""`Fields`: an object read from a result; its values are checked when they are used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from lightning_neft.errors import DataError

__all__ = ["Curve", "Fields"]

# Pairs of step and value.
Curve = tuple[tuple[float, float], ...]


class Fields:
    """An object read from JSON. A missing or null value is None or empty; a value of the wrong type is an error.

    Args:
        data: The object.
        where: The file and the key of the object in it, for messages.

    Example:
        >>> fields = Fields({"mean": 1, "splits": {"train": {"n": 3}}}, "a.json")
        >>> fields.number("mean"), fields.number("low"), fields.child("splits").child("train").number("n")
        (1.0, None, 3.0)
        >>> fields.text("mean")
        Traceback (most recent call last):
        lightning_neft.errors.DataError: a.json: mean is 1, where a string is expected
    """

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    def number(self, key: str) -> float | None:
        """Return a number; None also for NaN and the infinities."""
        found = self.data.get(key)
        if found is not None and not _is_number(found):
            raise self._wrong(key, "a number")
        return float(found) if found is not None and math.isfinite(found) else None

    def needed(self, key: str) -> float:
        """Return a required number."""
        found = self.number(key)
        if found is None:
            raise DataError(f"{self.where}: {key} is {self.data.get(key)!r}, it must be a number")
        return found

    def text(self, key: str) -> str | None:
        """Return a text."""
        found = self.data.get(key)
        if found is not None and not isinstance(found, str):
            raise self._wrong(key, "a string")
        return found

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return a list of numbers, without those that are null or not finite."""
        found = self._list(key)
        if not all(value is None or _is_number(value) for value in found):
            raise self._wrong(key, "a list of numbers")
        return tuple(float(value) for value in found if value is not None and math.isfinite(value))

    def points(self, key: str) -> Curve:
        """Return a list of pairs of step and value; a value that is null or not finite becomes NaN."""
        found = self._list(key)
        for pair in found:
            if not (isinstance(pair, list) and len(pair) == 2 and _is_number(pair[0])):
                raise self._wrong(key, "a list of [step, value]")
            if not (pair[1] is None or _is_number(pair[1])):
                raise self._wrong(key, "a list of [step, value]")
        values = ((step, math.nan if value is None else float(value)) for step, value in found)
        return tuple((step, value if math.isfinite(value) else math.nan) for step, value in values)

    def child(self, key: str) -> Fields | None:
        """Return an object."""
        found = self.data.get(key)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise self._wrong(key, "an object")
        return Fields(found, f"{self.where}: {key}")

    def children(self, key: str) -> list[Fields]:
        """Return a list of objects."""
        found = self._list(key)
        if not all(isinstance(value, Mapping) for value in found):
            raise self._wrong(key, "a list of objects")
        return [Fields(value, f"{self.where}: {key}[{index}]") for index, value in enumerate(found)]

    def names(self) -> list[str]:
        """Return the names in the object, in its order."""
        return list(self.data)

    def _list(self, key: str) -> list[Any]:
        found = self.data.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise self._wrong(key, "a list")
        return found

    def _wrong(self, key: str, expected: str) -> DataError:
        return DataError(f"{self.where}: {key} is {short(self.data[key])}, where {expected} is expected")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
