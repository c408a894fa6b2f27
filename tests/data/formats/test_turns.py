"""What a turn says besides its text: whether it is trained, its reasoning, its parts, its keys that are not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.formats.chat import JOINED, JOINED_UNTRAINED, MessagesFormat, ShareGPTFormat
from lightning_neft.data.formats.format import ignored_key
from lightning_neft.data.formats.turns import OTHERS_NOT_TRAINED, UNTRAINED
from lightning_neft.errors import DataError

ASK = {"role": "user", "content": "q"}


def parsed(*turns: dict[str, Any]) -> tuple[tuple[Message, ...], Counter[str]]:
    notices: Counter[str] = Counter()
    sample = MessagesFormat().parse({"messages": [*turns]}, "here", notices)
    assert isinstance(sample, Conversation)
    return sample.messages, notices


@pytest.mark.parametrize("flag", [{"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}, {"loss": 0}])
@pytest.mark.parametrize("form", ["messages", "sharegpt"])
def test_each_spelling_takes_the_loss_from_a_turn(flag: dict[str, Any], form: str) -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "wrong", **flag},
        {"role": "user", "content": "no"},
        {"role": "assistant", "content": "right", **dict.fromkeys(flag, 1)},
    ]
    if form == "sharegpt":
        turns = [{"from": turn.pop("role"), "value": turn.pop("content"), **turn} for turn in turns]
    notices: Counter[str] = Counter()
    kind = {"messages": MessagesFormat, "sharegpt": ShareGPTFormat}[form]
    sample = kind().parse({"conversations": turns}, "here", notices)
    assert isinstance(sample, Conversation)
    assert [message.trained for message in sample.messages] == [True, False, True, True]
    assert notices == {UNTRAINED: 1}


def test_null_and_true_leave_a_turn_trained() -> None:
    messages, notices = parsed(ASK, {"role": "assistant", "content": "a", "weight": 1, "train": True, "loss": None})
    assert messages[1].trained
    assert not notices


def test_one_flag_against_training_is_enough() -> None:
    messages, _ = parsed(ASK, {"role": "assistant", "content": "a", "weight": 1, "train": False})
    assert not messages[1].trained


@pytest.mark.parametrize(("flag", "noticed"), [({"weight": 0}, {}), ({"train": True}, {OTHERS_NOT_TRAINED: 1})])
def test_a_flag_of_a_user_message_trains_nothing(flag: dict[str, Any], noticed: dict[str, int]) -> None:
    _, notices = parsed({**ASK, **flag}, {"role": "assistant", "content": "a"})
    assert notices == noticed


@pytest.mark.parametrize("flags", [(False, True), (True, False)])
def test_a_joined_turn_is_untrained_if_a_part_is(flags: tuple[bool, bool]) -> None:
    turns = ({"role": "assistant", "content": text, "train": flag} for text, flag in zip("ab", flags, strict=True))
    messages, notices = parsed(ASK, *turns)
    assert (messages[1].content, messages[1].trained) == ("a\nb", False)
    assert notices == {UNTRAINED: 1, JOINED: 1, JOINED_UNTRAINED: 1}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_read_from_each_of_its_keys(key: str) -> None:
    messages, notices = parsed(ASK, {"role": "assistant", "content": "4", key: "2 + 2"})
    assert messages[1] == Message("assistant", "4", reasoning="2 + 2")
    assert not notices


def test_the_same_reasoning_may_be_in_two_keys() -> None:
    messages, _ = parsed(ASK, {"role": "assistant", "content": "4", "reasoning": "2", "reasoning_content": "2"})
    assert messages[1].reasoning == "2"


def test_text_parts_are_joined_as_they_are() -> None:
    parts = [{"type": "text", "text": "a "}, "b", {"text": "c", "image_url": None}]
    messages, _ = parsed({"role": "user", "content": parts}, {"role": "assistant", "content": "d"})
    assert messages[0].content == "a bc"


def test_keys_that_are_not_read_are_noticed() -> None:
    _, notices = parsed({**ASK, "name": "Ann"}, {"role": "assistant", "content": "a", "name": "Bob", "refusal": None})
    assert notices == {ignored_key("messages.name"): 1}


@pytest.mark.parametrize(
    ("turn", "named"),
    [
        ({"content": "a", "weight": 0.5}, ["'weight'", "turn 2", "0.5"]),
        ({"content": "a", "train": "no"}, ["'train'", "turn 2", "'no'"]),
        ({"content": "a", "loss": -1}, ["'loss'", "turn 2", "-1"]),
        ({"content": "a", "train_detail": [{"begin_offset": 0}]}, ["'train_detail'", "turn 2"]),
        ({"content": "a", "reasoning": "b", "thinking": "c"}, ["turn 2", "reasoning", "thinking"]),
        ({"content": "a", "reasoning": ["b"]}, ["'reasoning'", "turn 2"]),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x.png"}}]},
            ["'content'", "turn 2", "part 2", "image_url"],
        ),
        ({"content": [{"type": "input_audio", "input_audio": {}}]}, ["'content'", "turn 2", "part 1", "input_audio"]),
        ({"content": [["a"]]}, ["'content'", "turn 2", "part 1"]),
    ],
)
def test_a_broken_turn_is_named_with_its_place(
    turn: dict[str, Any], named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(DataError) as caught:
        parsed(ASK, {"role": "assistant", **turn})
    snapshot(text := str(caught.value))
    assert all(part in text for part in ("here", *named))
