"""Read typed values out of a section of a YAML file, and collect all that is wrong with it, each with its line."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import yaml

__all__ = ["Section"]

_EMPTY = yaml.MappingNode("tag:yaml.org,2002:map", [])


class Section:
    """A mapping of a YAML document.

    Where something is wrong the problem is noted and a harmless value of the right type returned, so that the reading
    goes on to the next problem.

    Args:
        node: The YAML node of the mapping.
        key: Its dotted key.
        where: The file, for messages.
        problems: Where problems are noted.
    """

    def __init__(self, node: yaml.Node, key: str, where: str, problems: list[str]) -> None:
        self._key, self._where, self._problems, self._node = key, where, problems, node
        self._nodes: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            self._note(node, key, f"is a section with keys of its own, got {_value(node)!r}")
            return
        for name, value in node.value:
            if name.value in self._nodes:
                self._note(name, f"{key}.{name.value}", "is given twice")
            self._nodes[name.value] = value

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def allow(self, required: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Note keys that are missing, and those that there are not."""
        known = [*required, *optional]
        if isinstance(self._node, yaml.MappingNode) and self._node is not _EMPTY:
            for name in required:
                if name not in self._nodes:
                    self._note(self._node, f"{self._key}.{name}", "is missing")
        for name, node in self._nodes.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {self._key}.{near[0]}?" if near else f"{self._key} has {', '.join(known)}"
                self._note(node, f"{self._key}.{name}", f"is not known; {hint}")

    def complain(self, name: str, what: str) -> None:
        """Note a problem with the value of a key."""
        self._note(self._nodes[name], f"{self._key}.{name}:", what)

    def inner(self, name: str) -> Section:
        """Return the section under a key, an empty one if it is not there."""
        return Section(self._nodes.get(name, _EMPTY), f"{self._key}.{name}", self._where, self._problems)

    def text(self, name: str) -> str:
        """Return a text that is not empty; an empty one if the key is not there."""
        value = self._get(name)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            self.complain(name, f"got {value!r}, expected a text")
            return ""
        return "" if value is None else " ".join(value.split())

    def flag(self, name: str) -> bool:
        """Return true or false; false if the key is not there."""
        value = self._get(name)
        if value is not None and not isinstance(value, bool):
            self.complain(name, f"got {value!r}, expected true or false")
        return value is True

    def date(self, name: str) -> datetime.date | None:
        """Return a date such as 2026-01-31; None if the key is not there."""
        value = self._get(name)
        if value is None or type(value) is datetime.date:
            return value
        if isinstance(value, str):
            # In the saved config of a run it is a text.
            with suppress(ValueError):
                return datetime.date.fromisoformat(value)
        self.complain(name, f"got {value!r}, expected a date such as 2026-01-31")
        return None

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """Return one of the allowed texts; the first if the key is not there."""
        value = self._get(name)
        if name in self._nodes and value not in allowed:
            near = get_close_matches(str(value), allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.complain(name, f"got {value!r}, expected {', '.join(allowed)}{hint}")
        return value if value in allowed else allowed[0]

    def values(self, name: str) -> dict[str, float | str]:
        """Return numbers and texts by name; none if the key is not there."""
        if name not in self._nodes:
            return {}
        inner = self.inner(name)
        found: dict[str, float | str] = {}
        for key in inner._nodes:
            value = inner._get(key)
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                inner.complain(key, f"got {value!r}, expected a number or a text")
            else:
                found[key] = value
        if not found and isinstance(inner._node, yaml.MappingNode):
            self.complain(name, "is empty")
        return found

    def _get(self, name: str) -> Any:
        return _value(self._nodes[name]) if name in self._nodes else None

    def _note(self, node: yaml.Node, key: str, what: str) -> None:
        self._problems.append(f"{self._where}, line {node.start_mark.line + 1}: {key} {what}")


def _value(node: yaml.Node) -> Any:
    """Return what a node stands for, as `yaml.safe_load` would."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()
