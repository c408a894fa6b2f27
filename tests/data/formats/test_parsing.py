"""All records together: samples in order, notices counted once a record."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.formats.chat import TOOL_CALLS, TOOLS_IGNORED, ShareGPTFormat
from lightning_neft.data.formats.parsing import parse_records
from lightning_neft.data.formats.registry import choose_format, format_named
from lightning_neft.data.formats.turns import in_turn
from lightning_neft.data.sources.source import open_source
from lightning_neft.errors import DataError


def test_notices_count_records_and_are_worded_once() -> None:
    call = [{"from": "human", "value": "q"}, {"from": "function_call", "value": "c"}] * 3
    records = [
        ({"conversations": call, "tools": "[...]"}, "1"),
        ({"conversations": call[:1], "tools": "[...]"}, "2"),
        ({"conversations": call[:1], "tools": None}, "3"),
    ]
    parsed = parse_records(records, ShareGPTFormat())
    assert len(parsed.samples) == 3
    assert parsed.notices == {TOOLS_IGNORED: 2, TOOL_CALLS: 1}
    assert parsed.lines("training") == [
        "training data: in 1 of 3 records, calls of tools are taken for answers of the assistant, what tools return "
        "for messages of the user",
        "training data: in 2 of 3 records, the column tools is not used: descriptions of tools do not get into the "
        "prompt",
    ]


def test_the_first_broken_record_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('text,label\n"a\nb",1\nc,2\nd,\n')
    with pytest.raises(DataError, match=r"x\.csv, line 5: 'label' is empty; name the class"):
        parse_records(open_source(str(path)), format_named("text_label"))


def test_the_toy_data_are_read_from_end_to_end() -> None:
    records = open_source("toy")
    parsed = parse_records(records, choose_format(records.first, source=records.name))
    assert len(parsed.samples) == records.size
    assert parsed.lines("training") == []
    expected = [Conversation.exchange(r["instruction"], r["output"], context=r["input"]) for r, _ in records]
    assert parsed.samples == expected


messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text("ab \n", max_size=3)), max_size=8
)


@settings(deadline=None)
@given(messages)
def test_turns_alternate_and_nothing_said_after_the_first_question_is_lost(said: list[Message]) -> None:
    result = in_turn(said, set()).messages
    speakers = [message.role for message in result if message.role != "system"]
    assert speakers[:1] in ([], ["user"])
    # A system message between two messages of one role keeps them apart.
    if not any(message.role == "system" for message in result[1:]):
        assert all(one != other for one, other in pairwise(speakers))
    asked = next((number for number, message in enumerate(said) if message.role == "user"), len(said))
    kept = [m for n, m in enumerate(said) if m.content.strip() if m.role == "system" or (n >= asked)]
    words = [word for message in kept for word in message.content.split()]
    assert [word for message in result for word in message.content.split()] == words
