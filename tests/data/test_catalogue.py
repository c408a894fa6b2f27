"""The catalogue: what is said of each dataset can be used as it stands."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from lightning_neft.data.catalogue import CatalogueEntry, catalogue, find_entry
from lightning_neft.data.formats.registry import choose_format, format_named
from lightning_neft.data.templates.registry import TEMPLATES

NAMES = [
    "alpaca", "alpaca-cleaned", "alpaca-gpt4", "alpaca-en-demo", "alpaca-1k-longest", "evol-instruct-70k", "sharegpt",
    "open-platypus", "openassistant-guanaco", "dolly-15k", "dolly-3k", "glaive-toolcall-en-demo", "lima", "imdb",
]  # fmt: skip
# The first record of each, its texts cut, as their publishers show them.
FIRST: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "Give three tips", "input": "", "output": "1.Eat", "text": "Below is an instruction"},
    "alpaca-cleaned": {"output": "1. Eat", "input": "", "instruction": "Give three tips"},
    "alpaca-gpt4": {"instruction": "Give three tips", "input": "", "output": "1. Eat", "text": "Below is"},
    "alpaca-en-demo": {"instruction": "Describe a process", "input": "", "output": "Making crepes"},
    "alpaca-1k-longest": {
        "id": "identity_7",
        "conversations": [{"from": "human", "value": "Below is"}, {"from": "gpt", "value": "John was"}],
        "score": 3.5,
    },
    "evol-instruct-70k": {"instruction": "Can you provide a list", "output": "Here's an HTML page"},
    "sharegpt": {"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "Summarize the main ideas"}]},
    "open-platypus": {"input": "", "output": "To find", "instruction": "A board game", "data_source": "MATH/PRM-800K"},
    "openassistant-guanaco": {"text": '### Human: Can you write### Assistant: "Monopsony" refers'},
    "dolly-15k": {"instruction": "When did", "context": "Virgin", "response": "Virgin", "category": "closed_qa"},
    "dolly-3k": {"instruction": "How do I", "category": "general_qa", "input": "", "output": "Make sure"},
    "glaive-toolcall-en-demo": {
        "conversations": [{"from": "human", "value": "Hi, I have"}, {"from": "gpt", "value": "Of course"}],
        "tools": '[{"name": "search_recipes"}]',
    },
    "lima": {"conversations": ["Can brain cells move?", "The question is"], "source": "stackexchange"},
    "imdb": {"text": "I rented I AM CURIOUS-YELLOW", "label": 0},
}


def test_the_named_datasets_are_there_in_this_order() -> None:
    assert list(catalogue()) == NAMES
    assert all(name == entry.name for name, entry in catalogue().items())
    assert find_entry("lima") is catalogue()["lima"]
    assert find_entry("Lima") is None


@pytest.mark.parametrize("entry", catalogue().values(), ids=NAMES)
def test_each_entry_can_be_used_as_it_stands(entry: CatalogueEntry) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+|https://\S+/[0-9a-f]{40}", entry.source)
    assert entry.template in TEMPLATES
    assert entry.samples is None or entry.samples > 0
    assert entry.licence
    assert entry.notes.endswith(".")
    assert "\n" not in entry.notes + entry.licence
    assert not entry.files or entry.split in entry.files
    format_named(entry.format, entry.columns)


@pytest.mark.parametrize("name", NAMES)
def test_the_format_is_the_one_that_the_columns_show(name: str) -> None:
    entry = catalogue()[name]
    assert choose_format([FIRST[name]], columns=entry.columns).name == entry.format
    format_named(entry.format, entry.columns).parse(FIRST[name], name)


def test_an_entry_is_not_to_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        catalogue()["alpaca"].samples = 1  # type: ignore[misc]


def test_what_is_special_about_some_of_them_is_said() -> None:
    assert [name for name, entry in catalogue().items() if entry.gated] == ["lima"]
    assert [name for name, entry in catalogue().items() if entry.cut_conversations] == ["sharegpt"]
