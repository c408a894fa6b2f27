"""One text a record: plain, with Guanaco's marks, or with a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Labelled, Message
from lightning_neft.data.formats.chat import FIRST_ANSWERS_NOTHING, JOINED
from lightning_neft.data.formats.texts import GuanacoFormat, TextFormat, TextLabelFormat
from lightning_neft.data.templates.bundled import BundledTemplate
from lightning_neft.errors import DataError


def test_a_text_is_all_answer() -> None:
    sample = TextFormat().parse({"text": " Once upon\na time ", "meta": {}}, "here")
    assert sample == Conversation((Message("assistant", " Once upon\na time "),))
    assert TextFormat({"text": "content"}).parse({"content": ""}, "here") == Conversation((Message("assistant", ""),))


@pytest.mark.parametrize(
    ("text", "expected", "noticed"),
    [
        ("### Human: q### Assistant: a", [("user", "q"), ("assistant", "a")], []),
        (
            "### Human: q\nr### Assistant: a\n\n# b\n### c### Human: s### Assistant: d",
            [("user", "q\nr"), ("assistant", "a\n\n# b\n### c"), ("user", "s"), ("assistant", "d")],
            [],
        ),
        ("### Human: q\n### Assistant: a\n", [("user", "q"), ("assistant", "a")], []),
        ("### Human: q### Assistant: a### Human: r", [("user", "q"), ("assistant", "a"), ("user", "r")], []),
        ("### Human: q", [("user", "q")], []),
        ("### Human: q### Assistant:", [("user", "q"), ("assistant", "")], []),
        ("A chat.\n### Human: q### Assistant: a", [("system", "A chat."), ("user", "q"), ("assistant", "a")], []),
        ("### Human: q### Human: r### Assistant: a", [("user", "q\nr"), ("assistant", "a")], [JOINED]),
        ("### Assistant: a### Human: q### Assistant: b", [("user", "q"), ("assistant", "b")], [FIRST_ANSWERS_NOTHING]),
        ("### Human: is '### human:' or '###Human:' a mark?", [("user", "is '### human:' or '###Human:' a mark?")], []),
    ],
)
def test_guanaco_is_split_at_its_marks(text: str, expected: list[tuple[Any, str]], noticed: list[str]) -> None:
    notices: Counter[str] = Counter()
    sample = GuanacoFormat().parse({"text": text}, "here", notices)
    assert sample == Conversation(tuple(Message(*turn) for turn in expected))
    assert notices == Counter(noticed)


def test_the_template_words_the_data_as_they_are() -> None:
    text = "### Human: What is\nthat?### Assistant: A dog.\n\nOr not.### Human: Thanks### Assistant: Bye"
    sample = GuanacoFormat().parse({"text": text}, "here")
    assert isinstance(sample, Conversation)
    exchanges = BundledTemplate("guanaco").exchanges(sample)
    assert "".join(exchange.prompt + exchange.answer for exchange in exchanges) == text


def test_a_text_without_marks_is_no_conversation(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(DataError) as caught:
        GuanacoFormat().parse({"text": "Human: q"}, "x.jsonl, line 3")
    snapshot(text := str(caught.value))
    assert all(part in text for part in ("x.jsonl", "line 3", "'### Human:'", "'### Assistant:'"))


@pytest.mark.parametrize(
    ("record", "sample"),
    [
        ({"text": "good", "label": 1}, Labelled("good", 1)),
        ({"text": "good", "label": -1}, Labelled("good", -1)),
        ({"sentence": "good", "label": "pos", "idx": 3}, Labelled("good", "pos")),
        ({"text": "", "label": " p "}, Labelled("", " p ")),
    ],
)
def test_a_text_has_a_name_or_a_number_for_its_class(record: dict[str, Any], sample: Labelled) -> None:
    assert TextLabelFormat().parse(record, "here") == sample


def test_true_and_false_are_numbers() -> None:
    sample = TextLabelFormat().parse({"text": "good", "label": True}, "here")
    assert isinstance(sample, Labelled)
    assert type(sample.label) is int
    assert sample.label == 1


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"text": "a", "label": None}, ["'label'"]),
        ({"text": "a", "label": 0.5}, ["'label'"]),
        ({"text": "a", "label": [1]}, ["'label'"]),
        ({"text": "a", "label": " "}, ["'label'"]),
        (
            {"text": "a", "label": "\udc00"},
            ["'label'"],
        ),
        ({"text": None, "label": 1}, ["'text'"]),
    ],
)
def test_every_fault_of_a_labelled_text_is_named(
    record: dict[str, Any], named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(DataError) as caught:
        TextLabelFormat().parse(record, "here")
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)
