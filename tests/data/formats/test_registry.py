"""Which format the columns show, and what is said where they show none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lightning_neft.data.conversation import Labelled
from lightning_neft.data.formats.format import Format
from lightning_neft.data.formats.registry import FORMAT_CLASSES, FORMATS, choose_format, detect_format, format_named
from lightning_neft.data.templates.registry import default_template
from lightning_neft.errors import ConfigError, DataError

TURN, MESSAGE = {"from": "human", "value": "q"}, {"role": "user", "content": "q"}
KNOWN = "; ".join(f"{kind.name} ({kind().needs()})" for kind in FORMAT_CLASSES)
NAMES = ", ".join(dict.fromkeys(column.name for kind in FORMAT_CLASSES for column in kind.columns))


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ({"instruction": "", "input": "", "output": "", "text": "Below ..."}, "alpaca"),
        ({"output": "", "input": "", "instruction": ""}, "alpaca"),
        ({"instruction": "", "context": "", "response": "", "category": ""}, "alpaca"),
        ({"input": "", "output": "", "instruction": "", "data_source": ""}, "alpaca"),
        ({"id": "", "conversations": [TURN]}, "sharegpt"),
        ({"conversations": [TURN], "tools": "[]", "system": ""}, "sharegpt"),
        ({"conversations": ["q", "a"], "source": ""}, "sharegpt"),
        ({"conversations": []}, "sharegpt"),
        ({"messages": [MESSAGE]}, "messages"),
        ({"prompt": "", "prompt_id": "", "messages": [MESSAGE]}, "messages"),
        ({"conversation": [MESSAGE], "model": ""}, "messages"),
        ({"conversations": [MESSAGE]}, "messages"),
        ({"messages": []}, "messages"),
        ({"prompt": "", "completion": ""}, "prompt_completion"),
        ({"prompt": "", "response": ""}, "prompt_completion"),
        ({"source": "", "target": ""}, "source_target"),
        ({"inputs": "", "targets": ""}, "source_target"),
        ({"text": "", "label": 0}, "text_label"),
        ({"sentence": "", "label": 0, "idx": 0}, "text_label"),
        ({"text": "### Human: q### Assistant: a"}, "guanaco"),
        ({"text": "### Human: q### Assistant: a", "label": 0}, "text_label"),
        ({"text": "Once upon a time"}, "text"),
        ({"text": None}, "text"),
        ({"instruction": "", "text": ""}, "text"),
    ],
)
def test_the_columns_of_well_known_data_are_recognised(first: dict[str, Any], name: str) -> None:
    assert detect_format([first]).name == name
    assert choose_format([first]).name == name


@pytest.mark.parametrize("first", [{"question": "", "answer": ""}, {"messages": "q"}, {"conversations": [3]}])
def test_columns_that_show_no_format_are_listed_with_the_formats(
    first: dict[str, Any], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(DataError) as caught:
        choose_format([first], source="x.json")
    snapshot(text := str(caught.value))
    assert all(part in text for part in ("x.json", "data.columns"))


@pytest.mark.parametrize(
    ("first", "columns", "name"),
    [
        ({"question": "q", "answer": "a"}, {"instruction": "question", "output": "answer"}, "alpaca"),
        ({"question": "q", "answer": "a"}, {"prompt": "question", "completion": "answer"}, "prompt_completion"),
        ({"content": "t"}, {"text": "content"}, "text"),
        ({"content": "### Human: q"}, {"text": "content"}, "guanaco"),
        ({"content": "t", "class": 1}, {"text": "content", "label": "class"}, "text_label"),
        ({"chat": [TURN]}, {"conversations": "chat"}, "sharegpt"),
        ({"chat": [MESSAGE]}, {"messages": "chat"}, "messages"),
        ({"instruction": "", "output": "", "body": ""}, {"text": "body"}, "text"),
    ],
)
def test_a_mapping_says_which_format_is_meant(first: dict[str, Any], columns: dict[str, str], name: str) -> None:
    format = choose_format([first], columns=columns)
    assert (format.name, format.mapping) == (name, columns)
    format.parse(first, "here")


def test_the_chosen_format_goes_before_what_the_columns_show() -> None:
    first = {"text": "a", "label": 0}
    assert choose_format([first], "text").name == "text"
    assert choose_format([first], "alpaca").name == "alpaca"


@pytest.mark.parametrize(
    ("options", "kind", "named"),
    [
        (
            {"name": "alpca"},
            ConfigError,
            ["'alpca'", "did you mean alpaca"],
        ),
        (
            {"name": "alpaca", "columns": {"outputs": "answer"}},
            ConfigError,
            ["'outputs'", "did you mean output"],
        ),
        (
            {"columns": {"instructions": "question"}},
            ConfigError,
            ["'instructions'", "did you mean instruction"],
        ),
        (
            {"columns": {"instruction": "question", "completion": "answer"}},
            ConfigError,
            [],
        ),
        (
            {"columns": {"output": "anser"}},
            DataError,
            ["'output'", "'anser'", "x.json"],
        ),
        (
            {"name": "alpaca", "columns": {"input": "context"}},
            DataError,
            ["'input'", "'context'", "x.json"],
        ),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(
    options: dict[str, Any], kind: type[Exception], named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(kind) as caught:
        choose_format([{"question": "q", "answer": "a"}], **options, source="x.json")
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_name_and_a_template(name: str) -> None:
    class NoChatTemplate:
        chat_template = None

    assert format_named(name).name == name
    assert default_template(format_named(name), NoChatTemplate()).name  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FORMAT_CLASSES, ids=FORMATS)
def test_every_format_is_detected_and_reads_its_own_record(kind: type[Format]) -> None:
    record = kind.record_of([("1 + 1?", "2"), ("And 2 + 2?", "4")], 0)
    assert detect_format([record]).name == kind.name
    notices: Counter[str] = Counter()
    sample = kind().parse(record, "here", notices)
    assert not notices
    texts = [sample.text] if isinstance(sample, Labelled) else [message.content for message in sample.messages]
    assert "1 + 1?" in "\n".join(texts)


@pytest.mark.parametrize("odd", [{}, {"text": "a note"}, {"comment": "made by hand"}])
def test_an_odd_first_record_does_not_decide_the_format(odd: dict[str, str]) -> None:
    head = [odd, *[{"instruction": "a", "output": "b"}] * 2]
    assert detect_format(head).name == "alpaca"
    assert choose_format(head, columns={"output": "output"}).name == "alpaca"


def test_of_equal_formats_the_most_specific_is_chosen() -> None:
    assert detect_format([{"text": "a"}, {"prompt": "a", "completion": "b"}]).name == "prompt_completion"
