"""The card of a recipe: all problems are reported at once, with file, line and key."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
import yaml

from lightning_neft.errors import ConfigError
from lightning_neft.recipes.card import AlphaSource, Card, Licences, Status, read_card

CARD = """\
model: llama-2-7b
licences: {model: theirs, data: others}
gated: true
alpha_source:
  kind: cited
  reference: Somebody,
    in two lines
status:
  kind: smoke
"""
EXECUTED = """\
status:
  kind: executed
  date: 2026-11-24
  versions: {torch: 2.13.0, lightning: 2.6}
  hardware: one
  results: {seconds: 30, loss: 1.5, answer: good}
"""


def read(text: str) -> Card:
    return read_card(yaml.compose(text), "my.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [line.removeprefix("my.yaml, line ") for line in str(caught.value).split(" | ")]


def test_card_is_read_with_its_types() -> None:
    assert read(CARD) == Card(
        "llama-2-7b",
        Licences("theirs", "others"),
        True,
        AlphaSource("cited", "Somebody, in two lines"),
        Status("smoke"),
    )


def test_results_are_read_with_their_types() -> None:
    status = read(CARD.partition("status:")[0] + EXECUTED).status
    assert status == Status(
        "executed",
        datetime.date(2026, 11, 24),
        {"torch": "2.13.0", "lightning": "2.6"},
        "one",
        {"seconds": 30, "loss": 1.5, "answer": "good"},
    )


def test_date_may_be_quoted_as_in_a_saved_config() -> None:
    text = CARD.partition("status:")[0] + EXECUTED
    assert read(text.replace("2026-11-24", "'2026-11-24'")) == read(text)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("llama-2-7b", "llama-2-7", "1: card.model: "),
        ("llama-2-7b", "7", "1: card.model: "),
        ("gated: true", "gated: maybe", "3: card.gated: "),
        ("gated: true\n", "", "1: card.gated "),
        ("kind: cited", "kind: papers", "5: card.alpha_source.kind: "),
        ("{model: theirs, data: others}", "none", "2: card.licences: "),
        ("data: others", "dat: others", "2: card.licences.data "),
        ("gated: true", "gated: true\ngated: true", "4: card.gated "),
        ("gated: true", "gated: true\nalfa: 5", "4: card.alfa "),
        ("kind: smoke", "kind: executed", "9: card.status.results "),
        ("kind: smoke", "kind: smoke\n  date: today", "10: card.status.date: "),
        ("kind: smoke", "kind: smoke\n  results: {loss: 1}", "10: card.status.results: "),
        ("kind: smoke", "kind: smoke\n  versions: {torch: [2]}", "10: card.status.versions.torch: "),
        ("kind: smoke", "kind: smoke\n  versions: {}", "10: card.status.versions "),
        ("kind: smoke", "kind: executed\n  date: null", "10: card.status.date "),
        ("model: theirs", "model: null", "2: card.licences.model: "),
    ],
    ids=lambda value: value.strip(),
)
def test_each_problem_has_line_and_key(old: str, new: str, place: str, snapshot: Callable[[str], None]) -> None:
    assert old in CARD
    lines = problems(CARD.replace(old, new))
    assert any(line.startswith(place) for line in lines)
    snapshot("\n".join(lines))


def test_all_problems_are_reported_at_once() -> None:
    found = problems(CARD.replace("model: llama-2-7b", "model: lama").replace("gated: true", "gated: 1"))
    assert [line.partition(":")[0] for line in found] == ["1", "3"]


def test_a_wrong_value_is_not_reported_as_missing_too() -> None:
    found = problems(CARD.partition("status:")[0] + EXECUTED.replace("2026-11-24", "today"))
    assert [line.partition(": got")[0] for line in found] == ["10: card.status.date"]


def test_card_that_is_not_a_section_is_one_problem() -> None:
    assert [line.partition(", expected")[0] for line in problems("5")] == ["1: card: got 5"]
