"""Read YAML into dataclasses, checked against their annotations; one error lists all problems with line and key."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import yaml

from lightning_neft.common.config_text import construct
from lightning_neft.common.near_names import did_you_mean, nearest
from lightning_neft.errors import ConfigError

__all__ = ["Checks", "read_typed"]

T = TypeVar("T")
Checks: TypeAlias = Mapping[type, Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]]

_EXPECTED = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime.date: "a date such as 2026-01-31",
}


def read_typed(kind: type[T], node: yaml.Node, key: str, where: str, checks: Checks | None = None) -> T:
    """Read a node as a value of a type.

    A key whose field has a default may be omitted or null. Runs of white space in texts become one space. Numbers in a
    mapping to texts, such as versions, are kept as written.

    Args:
        kind: A dataclass, or a `dict` of such by name. Fields are dataclasses, mappings, literals or plain values.
        node: The node, from a document that `compose_config` accepts.
        key: Its dotted key, for messages.
        where: The file, for messages.
        checks: What else is checked of a dataclass: from its values, None where one could not be read, the key
            and the text of each problem.

    Raises:
        ConfigError: Something is wrong; one message lists every problem.

    Example:
        >>> from dataclasses import make_dataclass
        >>> read_typed(make_dataclass("Size", [("width", int)]), yaml.compose("{width: wide}"), "size", "my.yaml")
        Traceback (most recent call last):
        ...
        lightning_neft.errors.ConfigError: my.yaml, line 1: size.width: got 'wide', expected a whole number
    """
    reader = _Reader(where, checks or {})
    found = reader.value(kind, node, key)
    if reader.problems:
        by_line = sorted(reader.problems, key=lambda found: found[0])
        raise ConfigError(" | ".join(f"{where}, line {line}: {problem}" for line, problem in by_line))
    return found  # type: ignore[no-any-return]


class _Reader:
    """Reads nodes, and notes each problem with its line. What could not be read is None."""

    def __init__(self, where: str, checks: Checks) -> None:
        self._where, self._checks = where, checks
        self.problems: list[tuple[int, str]] = []

    def value(self, kind: Any, node: yaml.Node, key: str) -> Any:
        if is_dataclass(kind):
            return self._dataclass(kind, node, key)
        if get_origin(kind) in (dict, Mapping):
            return self._mapping(get_args(kind)[1], node, key)
        found = construct(self._where, node)
        if get_origin(kind) is Literal:
            allowed = get_args(kind)
            if found in allowed:
                return found
            hint = did_you_mean(str(found), allowed)
            self._note(node, f"{key}: got {found!r}, expected {', '.join(allowed)}{hint and f'; {hint}'}")
            return None
        kinds = [one for one in get_args(kind) or (kind,) if one is not NoneType]
        for one in kinds:
            with suppress(ValueError):
                return _plain(one, found)
        self._note(node, f"{key}: got {found!r}, expected {' or '.join(_EXPECTED[one] for one in kinds)}")
        return None

    def _dataclass(self, kind: Any, node: yaml.Node, key: str) -> Any:
        nodes = self._entries(node, key)
        if nodes is None:
            return None
        hints = get_type_hints(kind)
        required = [one.name for one in fields(kind) if one.default is one.default_factory is MISSING]
        for name in required:
            if name not in nodes:
                self._note(node, f"{key}.{name} is missing")
        values: dict[str, Any] = {}
        for name, inner in nodes.items():
            if name not in hints:
                near = nearest(name, hints)
                hint = f"did you mean {key}.{near}?" if near else f"{key} has {', '.join(hints)}"
                self._note(inner, f"{key}.{name} is not known; {hint}")
            elif name in required or not inner.tag.endswith(":null"):
                values[name] = self.value(hints[name], inner, f"{key}.{name}")
        if kind in self._checks:
            for name, problem in self._checks[kind](values):
                self._note(nodes.get(name, node), f"{key}.{name}{problem}")
        return None if self.problems else kind(**values)

    def _mapping(self, kind: Any, node: yaml.Node, key: str) -> dict[str, Any] | None:
        nodes = self._entries(node, key)
        if nodes is None:
            return None
        if not nodes:
            self._note(node, f"{key} is empty")
        as_written = {name for name, inner in nodes.items() if kind is str and inner.tag.endswith((":int", ":float"))}
        return {
            name: inner.value if name in as_written else self.value(kind, inner, f"{key}.{name}".lstrip("."))
            for name, inner in nodes.items()
        }

    def _entries(self, node: yaml.Node, key: str) -> dict[str, yaml.Node] | None:
        if not isinstance(node, yaml.MappingNode):
            self._note(node, f"{key}: got {construct(self._where, node)!r}, expected a section with keys")
            return None
        found: dict[str, yaml.Node] = {}
        for name, value in node.value:
            if name.value in found:
                self._note(name, f"{key}.{name.value} is given twice".lstrip("."))
            found[name.value] = value
        return found

    def _note(self, node: yaml.Node, problem: str) -> None:
        self.problems.append((node.start_mark.line + 1, problem))


def _plain(kind: Any, found: Any) -> Any:
    """Return a plain value if it is of a type.

    Raises:
        ValueError: If it is not.
    """
    if kind is str:
        if isinstance(found, str) and found.strip():
            return " ".join(found.split())
    elif kind is datetime.date and isinstance(found, str):
        # In the saved config of a run it is a text.
        return datetime.date.fromisoformat(found)
    elif type(found) is kind or (kind is float and type(found) is int):
        return found
    raise ValueError(found)
