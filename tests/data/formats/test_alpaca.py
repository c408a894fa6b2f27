"""Alpaca's columns, and those of Dolly and OpenOrca."""

from __future__ import annotations

from collections import Counter
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
    ("record", "mapping", "message"),
    [
        (
            {"prompt": "a"},
            {},
            "x.json, record 2: no 'instruction' and no 'output' for the format alpaca (columns found: prompt); add "
            "what is missing, or map the columns that hold it with data.columns",
        ),
        (
            {"instruction": "a"},
            {},
            "x.json, record 2: no 'output' for the format alpaca (columns found: instruction); add what is missing, or "
            "map the columns that hold it with data.columns",
        ),
        (
            {},
            {},
            "x.json, record 2: no 'instruction' and no 'output' for the format alpaca (columns found: none); add what "
            "is missing, or map the columns that hold it with data.columns",
        ),
        (
            {"instruction": "a", "output": "b"},
            {"output": "answer"},
            "x.json, record 2: no 'output' for the format alpaca (columns found: instruction, output); add what is "
            "missing, or map the columns that hold it with data.columns",
        ),
        ({"instruction": "a", "output": 3}, {}, "x.json, record 2: 'output' must be text, got int 3"),
        ({"instruction": None, "output": "b"}, {}, "x.json, record 2: 'instruction' must be text, got NoneType None"),
        (
            {"instruction": "a", "input": ["b"], "output": "c"},
            {},
            "x.json, record 2: 'input' must be text, got list ['b']",
        ),
        ({"instruction": "a", "input": 0, "output": "c"}, {}, "x.json, record 2: 'input' must be text, got int 0"),
        (
            {"q": "\ud800", "output": "b"},
            {"instruction": "q"},
            "x.json, record 2: 'q' holds half of a surrogate pair, which is no character; repair the text",
        ),
    ],
)
def test_every_fault_is_named_with_its_place(record: dict[str, Any], mapping: dict[str, str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        AlpacaFormat(mapping).parse(record, "x.json, record 2")
    assert str(caught.value) == message
