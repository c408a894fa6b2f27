"""Alpaca's columns, and those of Dolly and OpenOrca."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.formats.texts import HISTORY_IGNORED, AlpacaFormat
from lightning_neft.errors import DataError

ADD = Conversation((Message("user", "Add.", "1 2"), Message("assistant", "3")))
GREET = Conversation((Message("user", "Greet."), Message("assistant", "Hi!")))


@pytest.mark.parametrize(
    ("record", "sample"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, ADD),
        ({"instruction": "Add.", "input": "1 2", "output": "3", "text": "Below is ..."}, ADD),
        ({"instruction": "Add.", "context": "1 2", "response": "3", "category": "closed_qa"}, ADD),
        # Two data sets in one table, which fills up the columns of each.
        ({"instruction": "Add.", "input": None, "context": "1 2", "output": None, "response": "3"}, ADD),
        ({"instruction": "Greet.", "output": "Hi!"}, GREET),
        ({"instruction": "Greet.", "input": None, "output": "Hi!"}, GREET),
        ({"instruction": "Greet.", "input": "", "output": "Hi!", "system": "", "history": []}, GREET),
        ({"instruction": "Greet.", "output": "Hi!", "response": "Bye!"}, GREET),
        (
            {"instruction": "Greet.", "output": "Hi!", "system_prompt": "Be brief."},
            Conversation((Message("system", "Be brief."), *GREET.messages)),
        ),
        ({"instruction": "Greet.", "output": ""}, Conversation.exchange("Greet.", "")),
        ({"instruction": "Greet.", "output": None}, Conversation.exchange("Greet.", "")),
        ({"instruction": "", "output": " x\u2028"}, Conversation.exchange("", " x\u2028")),
    ],
)
def test_a_record_becomes_one_exchange(record: dict[str, Any], sample: Conversation) -> None:
    assert AlpacaFormat().parse(record, "here") == sample


def test_an_earlier_conversation_is_not_lost_silently() -> None:
    notices: Counter[str] = Counter()
    for history in ([["a", "b"]], [], None):
        AlpacaFormat().parse({"instruction": "Greet.", "output": "Hi!", "history": history}, "here", notices)
    assert notices == {HISTORY_IGNORED: 1}


def test_columns_can_have_other_names() -> None:
    format = AlpacaFormat({"instruction": "question", "output": "answer"})
    assert format.parse({"question": "Greet.", "answer": "Hi!", "input": ""}, "here") == GREET
    assert format.parse({"question": "Greet.", "answer": "Hi!", "output": "no", "instruction": "no"}, "here") == GREET


@pytest.mark.parametrize(
    ("record", "mapping", "named"),
    [
        (
            {"prompt": "a"},
            {},
            ["x.json", "'instruction'", "'output'"],
        ),
        (
            {"instruction": "a"},
            {},
            ["x.json", "'output'", "data.columns"],
        ),
        (
            {},
            {},
            ["x.json", "'instruction'", "'output'"],
        ),
        (
            {"instruction": "a", "output": "b"},
            {"output": "answer"},
            ["x.json", "'output'", "data.columns"],
        ),
        ({"instruction": "a", "output": 3}, {}, ["x.json", "'output'"]),
        ({"instruction": None, "output": "b"}, {}, ["x.json", "'instruction'"]),
        (
            {"instruction": "a", "input": ["b"], "output": "c"},
            {},
            ["x.json", "'input'", "'b'"],
        ),
        ({"instruction": "a", "input": 0, "output": "c"}, {}, ["x.json", "'input'"]),
        (
            {"q": "\ud800", "output": "b"},
            {"instruction": "q"},
            ["x.json", "'q'"],
        ),
    ],
)
def test_every_fault_is_named_with_its_place(
    record: dict[str, Any], mapping: dict[str, str], named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(DataError) as caught:
        AlpacaFormat(mapping).parse(record, "x.json, record 2")
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)
