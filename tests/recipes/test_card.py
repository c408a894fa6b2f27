"""The card of a recipe: all problems are reported at once, with file, line and key."""

from __future__ import annotations

import datetime

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
    ("old", "new", "problem"),
    [
        ("llama-2-7b", "llama-2-7", "1: card.model: no base model 'llama-2-7'; did you mean llama-2-7b?"),
        ("llama-2-7b", "7", "1: card.model: got 7, expected a text"),
        ("gated: true", "gated: maybe", "3: card.gated: got 'maybe', expected true or false"),
        ("gated: true\n", "", "1: card.gated is missing"),
        (
            "kind: cited",
            "kind: papers",
            "5: card.alpha_source.kind: got 'papers', expected paper, cited, default-untested, executed; "
            "did you mean paper?",
        ),
        ("{model: theirs, data: others}", "none", "2: card.licences: got 'none', expected a section with keys"),
        ("data: others", "dat: others", "2: card.licences.data is missing"),
        ("gated: true", "gated: true\ngated: true", "4: card.gated is given twice"),
        ("gated: true", "gated: true\nalfa: 5", "4: card.alfa is not known; card has model, licences, gated, "),
        ("kind: smoke", "kind: executed", "9: card.status.results is missing"),
        ("kind: smoke", "kind: smoke\n  date: today", "10: card.status.date: got 'today', expected a date such as"),
        ("kind: smoke", "kind: smoke\n  results: {loss: 1}", "10: card.status.results: a smoke test measures nothing"),
        ("kind: smoke", "kind: smoke\n  versions: {torch: [2]}", "10: card.status.versions.torch: got [2], expected"),
        ("kind: smoke", "kind: smoke\n  versions: {}", "10: card.status.versions is empty"),
        ("kind: smoke", "kind: executed\n  date: null", "10: card.status.date is missing"),
        ("model: theirs", "model: null", "2: card.licences.model: got None, expected a text"),
    ],
)
def test_each_problem_has_line_and_key(old: str, new: str, problem: str) -> None:
    assert old in CARD
    assert any(line.startswith(problem) for line in problems(CARD.replace(old, new))), problems(CARD.replace(old, new))


def test_all_problems_are_reported_at_once() -> None:
    found = problems(CARD.replace("model: llama-2-7b", "model: lama").replace("gated: true", "gated: 1"))
    assert [line.partition(":")[0] for line in found] == ["1", "3"]


def test_a_wrong_value_is_not_reported_as_missing_too() -> None:
    found = problems(CARD.partition("status:")[0] + EXECUTED.replace("2026-11-24", "today"))
    assert found == ["10: card.status.date: got 'today', expected a date such as 2026-01-31"]


def test_card_that_is_not_a_section_is_one_problem() -> None:
    assert problems("5") == ["1: card: got 5, expected a section with keys"]
