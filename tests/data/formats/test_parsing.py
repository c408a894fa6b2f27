"""All records together: samples in order, notices counted once a record."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_neft.data.conversation import Conversation, Labelled, Message, Sample
from lightning_neft.data.formats.chat import JOINED, ShareGPTFormat, in_turn
from lightning_neft.data.formats.format import parse_records
from lightning_neft.data.formats.registry import choose_format, format_named
from lightning_neft.data.sources.source import open_source
from lightning_neft.errors import DataError


def test_notices_count_records_and_are_worded_once() -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "human", "value": "r", "lang": "en"}] * 3
    records = [
        ({"conversations": turns, "id": 1, "source": "web"}, "1"),
        ({"conversations": turns[:1], "id": 2, "source": None}, "2"),
        ({"conversations": turns[:1], "id": 3}, "3"),
    ]
    parsed = parse_records(records, ShareGPTFormat())
    assert len(parsed.samples) == 3
    assert parsed.lines("training") == [
        f"training data: in 1 of 3 records, {JOINED}",
        "training data: ignored: id in 3 of 3 records, conversations.lang in 1, source in 1",
    ]


def test_many_ignored_keys_are_not_all_named() -> None:
    records = [({"text": "a", **{f"key{number}": 1 for number in range(12)}}, "1")]
    (line,) = parse_records(records, format_named("text")).lines("training")
    assert "key0 in 1 of 1 records, key1 in 1, key10 in 1" in line
    assert line.endswith("and 4 other keys")


def test_the_first_broken_record_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('text,label\n"a\nb",1\nc,2\nd,\n')
    with pytest.raises(DataError, match=r"x\.csv, line 5: 'label' is empty; name the class"):
        parse_records(open_source(str(path)), format_named("text_label"))


def test_the_toy_data_are_read_from_end_to_end() -> None:
    records = open_source("toy")
    parsed = parse_records(records, choose_format(records.head, source=records.name))
    assert len(parsed.samples) == records.size
    assert parsed.lines("training") == []
    expected = [Conversation.exchange(r["instruction"], r["output"], context=r["input"]) for r, _ in records]
    assert parsed.samples == expected


messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text("ab \n", max_size=3)), max_size=8
)


@given(messages)
def test_turns_alternate_and_none_is_lost(said: list[Message]) -> None:
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


# No mark of Guanaco's and no white space around it, which there belongs to the marks.
words = st.text(min_size=1, max_size=10).map(str.strip).filter(lambda text: text and "###" not in text)
contexts = st.one_of(st.just(""), words)


def _talk(turns: list[tuple[str, str]], system: str) -> Conversation:
    said = [Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    return Conversation((*([Message("system", system)] if system else []), *said))


def _exchange(question: str, answer: str) -> st.SearchStrategy[tuple[str, dict[str, object], Sample]]:
    """A record of each format that holds one exchange, with the name of the format."""
    plain = Conversation.exchange(question, answer)
    return st.sampled_from(
        [
            ("prompt_completion", {"prompt": question, "completion": answer}, plain),
            ("prompt_completion", {"prompt": question, "response": answer}, plain),
            ("source_target", {"source": question, "target": answer}, plain),
            ("source_target", {"inputs": question, "targets": answer}, plain),
            ("guanaco", {"text": f"### Human: {question}### Assistant: {answer}"}, plain),
            ("sharegpt", {"conversations": [question, answer]}, plain),
            ("text", {"text": answer}, Conversation((Message("assistant", answer),))),
            ("text_label", {"text": question, "label": answer}, Labelled(question, answer)),
            ("text_label", {"sentence": question, "label": len(answer)}, Labelled(question, len(answer))),
        ]
    )


def _alpaca(question: str, answer: str, context: str, system: str) -> tuple[str, dict[str, object], Sample]:
    record = {"instruction": question, "input": context, "output": answer, "system": system or None}
    return "alpaca", record, Conversation.exchange(question, answer, context=context, system=system)


def _chat(turns: list[tuple[str, str]], system: str, name: str) -> tuple[str, dict[str, object], Sample]:
    talk = _talk(turns, system)
    if name == "messages":
        said = [{"role": message.role, "content": message.content} for message in talk.messages]
    else:
        names = {"user": "human", "assistant": "gpt", "system": "system"}
        said = [{"from": names[message.role], "value": message.content} for message in talk.messages]
    return name, {"messages" if name == "messages" else "conversations": said}, talk


written = st.one_of(
    st.tuples(words, words).flatmap(lambda pair: _exchange(*pair)),
    st.builds(_alpaca, words, words, contexts, contexts),
    st.builds(
        _chat,
        st.lists(st.tuples(words, words), min_size=1, max_size=3),
        contexts,
        st.sampled_from(["messages", "sharegpt"]),
    ),
)


@given(written, st.randoms(use_true_random=False))
def test_what_is_written_in_a_format_is_found_and_read_again(
    case: tuple[str, dict[str, object], Sample], random: Random
) -> None:
    name, record, sample = case
    assert format_named(name).parse(record, "here") == sample
    # Neither the order of the columns nor one that nobody knows changes what the data are taken for.
    columns = [*record.items(), ("id", 7)]
    random.shuffle(columns)
    found = choose_format([dict(columns)])
    assert found.name == name
    assert found.parse(dict(columns), "here") == sample
