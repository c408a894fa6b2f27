"""Pairs of texts."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.formats.texts import PromptCompletionFormat, SourceTargetFormat
from lightning_neft.errors import DataError

PAIR = Conversation.exchange("1 + 2 =", " 3")


@pytest.mark.parametrize(
    ("format", "record", "sample"),
    [
        (PromptCompletionFormat(), {"prompt": "1 + 2 =", "completion": " 3"}, PAIR),
        (PromptCompletionFormat(), {"prompt": "1 + 2 =", "response": " 3", "id": 1}, PAIR),
        (PromptCompletionFormat(), {"prompt": "", "completion": None}, Conversation.exchange("", "")),
        (SourceTargetFormat(), {"source": "1 + 2 =", "target": " 3"}, PAIR),
        (SourceTargetFormat(), {"inputs": "1 + 2 =", "targets": " 3"}, PAIR),
        (SourceTargetFormat({"source": "long", "target": "short"}), {"long": "1 + 2 =", "short": " 3"}, PAIR),
    ],
)
def test_the_first_text_is_the_prompt_and_the_second_the_answer(
    format: PromptCompletionFormat | SourceTargetFormat, record: dict[str, Any], sample: Conversation
) -> None:
    assert format.parse(record, "here") == sample


@pytest.mark.parametrize(
    ("format", "record", "message"),
    [
        (
            PromptCompletionFormat(),
            {"prompt": None, "completion": "a"},
            "here: 'prompt' must be text, got NoneType None",
        ),
        (PromptCompletionFormat(), {"prompt": [], "completion": "a"}, "here: 'prompt' must be text, got list []"),
        (SourceTargetFormat(), {"source": "a", "target": 1.5}, "here: 'target' must be text, got float 1.5"),
        (
            SourceTargetFormat(),
            {"source": "a"},
            "here: no 'target' for the format source_target (columns found: source); add what is missing, or map the "
            "columns that hold it with data.columns",
        ),
    ],
)
def test_every_fault_is_named(
    format: PromptCompletionFormat | SourceTargetFormat, record: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        format.parse(record, "here")
    assert str(caught.value) == message
