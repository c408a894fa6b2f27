"""Pairs of texts."""

from __future__ import annotations

from collections.abc import Callable
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
    ("format", "record", "named"),
    [
        (
            PromptCompletionFormat(),
            {"prompt": None, "completion": "a"},
            ["'prompt'"],
        ),
        (PromptCompletionFormat(), {"prompt": [], "completion": "a"}, ["'prompt'"]),
        (SourceTargetFormat(), {"source": "a", "target": 1.5}, ["'target'"]),
        (
            SourceTargetFormat(),
            {"source": "a"},
            ["'target'", "data.columns"],
        ),
    ],
)
def test_every_fault_is_named(
    format: PromptCompletionFormat | SourceTargetFormat,
    record: dict[str, Any],
    named: list[str],
    snapshot: Callable[[str], None],
) -> None:
    with pytest.raises(DataError) as caught:
        format.parse(record, "here")
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)
