"""YAML read into dataclasses: types by annotation, defaults, and problems of all levels with their lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import yaml

from lightning_neft.common.typed_yaml import read_typed
from lightning_neft.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    count: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["one", "two"] = "one"
    versions: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, float | str] = field(default_factory=dict)
    note: str | None = None


def odd(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("count", " must be even")] if values.get("count") == 3 else []


def read(text: str, kind: Any = Outer, key: str = "outer") -> Any:
    return read_typed(kind, yaml.compose(text), key, "my.yaml", {Inner: odd})


def problems(text: str, kind: Any = Outer, key: str = "outer") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, kind, key)
    return [line.removeprefix("my.yaml, line ") for line in str(caught.value).split(" | ")]


def test_values_have_the_types_of_the_annotations() -> None:
    text = "{inner: {count: 2, share: 1}, kind: two, versions: {a: 1.10, b: c}, sizes: {x: 1.5, y: many}, note: 'a  b'}"
    assert read(text) == Outer(Inner(2, 1), "two", {"a": "1.10", "b": "c"}, {"x": 1.5, "y": "many"}, "a b")


def test_null_means_the_default_of_an_optional_key() -> None:
    assert read("{inner: {count: 2, share: null}, kind: null, note: null}") == Outer(Inner(2))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{inner: {count: null}}", "1: outer.inner.count: got None"),
        ("{inner: {count: true}}", "1: outer.inner.count: got True"),
        ("{inner: {count: 1.0}}", "1: outer.inner.count: got 1.0"),
        ("{inner: {count: 2, share: '1'}}", "1: outer.inner.share: got '1'"),
        ("{inner: {count: 2, shar: 1}}", "1: outer.inner.shar "),
        ("{inner: {count: 2}, kind: tow}", "1: outer.kind: got 'tow'"),
        ("{inner: {count: 2}, sizes: {a: [1]}}", "1: outer.sizes.a: got [1]"),
        ("inner:\n  count: 3", "2: outer.inner.count must be even"),
        ("{}", "1: outer.inner "),
    ],
    ids=lambda value: value.strip(),
)
def test_a_problem_names_line_key_and_what_is_expected(text: str, place: str, snapshot: Callable[[str], None]) -> None:
    (line,) = problems(text)
    assert line.startswith(place)
    snapshot(line)


def test_a_table_of_entries_reports_keys_without_a_prefix() -> None:
    found = problems("a: {count: 2}\nb: {coun: 2}\na: {count: 2}", dict[str, Inner], "")
    assert found == ["2: b.count is missing", "2: b.coun is not known; did you mean b.count?", "3: a is given twice"]
