"""Answers that the data mark as untrained: in no label, counted, kept on disk, and not trained through the prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightning_neft.data import TextData
from lightning_neft.data.conversation import Conversation, Message, ToolCall
from lightning_neft.data.templates.bundled import BUNDLED, BundledTemplate
from lightning_neft.data.token_store import Stored, open_or_build
from lightning_neft.data.tokenization import IGNORED, EncodedSample, Encoding, encode
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer
from words import talk


def marked(conversation: Conversation, *answers: int) -> Conversation:
    """The conversation with these of its answers untrained."""
    places = [place for place, message in enumerate(conversation.messages) if message.role == "assistant"]
    untrained = {places[number] for number in answers}
    return Conversation(
        tuple(replace(message, trained=place not in untrained) for place, message in enumerate(conversation.messages))
    )


TALK = talk("Say", "wrong", "No", "right", "Again", "again right")


@pytest.mark.parametrize("name", BUNDLED)
def test_the_same_tokens_without_the_loss(name: str) -> None:
    words = load_tokenizer("tiny")
    template = BundledTemplate(name)
    add_special_tokens(words, template.special_tokens)
    (whole,) = encode([TALK], words, template, max_length=1000).samples
    encoding = encode([marked(TALK, 0)], words, template, max_length=1000)
    (sample,) = encoding.samples
    assert list(sample.input_ids) == list(whole.input_ids)
    text = words.decode([label for label in sample.labels if label != IGNORED])
    assert "wrong" not in text
    assert text.count("right") == 2
    assert (encoding.marked, encoding.untrained) == (1, 0)


@pytest.mark.parametrize(("task", "answers"), [("causal_lm", (0, 1, 2)), ("seq2seq_lm", (2,))])
def test_without_a_trained_answer_a_sample_is_dropped(task: Any, answers: tuple[int, ...]) -> None:
    encoding = encode(
        [marked(TALK, *answers), TALK], load_tokenizer("tiny"), BundledTemplate("plain"), task=task, max_length=1000
    )
    assert encoding.dropped == {"every answer is marked as untrained": 1}
    assert encoding.kept == [1]


def test_messages_are_kept_on_disk_as_they_were(tmp_path: Path) -> None:
    said = Message("assistant", "", reasoning="r", tool_calls=(ToolCall("add", '{"a": "ä"}', "1"),), trained=False)
    result = Message("tool", "3", name="add", tool_call_id="1")
    conversation = Conversation((Message("user", "q"), said, result, Message("assistant", "3")), "[{}]")
    encoding = Encoding([EncodedSample([1], [1])], kept=[0], marked=1)
    for _ in range(2):
        store = open_or_build("x", lambda: [Stored(encoding, [conversation])], tmp_path)
        assert store.samples == [conversation]
        assert store.marked == 1


def records(*weights: int) -> str:
    return "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Say {number}."},
                    {"role": "assistant", "content": "no", "weight": weight},
                    {"role": "user", "content": "Really?"},
                    {"role": "assistant", "content": "yes"},
                ]
            }
        )
        + "\n"
        for number, weight in enumerate(weights)
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_a_loss_on_prompts_is_refused(streaming: bool, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(records(1, 0, 1, 0))

    def batches(prompt_loss: float) -> list[Any]:
        data = TextData(
            str(tmp_path / "x.jsonl"),
            val_size=0,
            batching="random",
            prompt_loss=prompt_loss,
            streaming=streaming,
            cache_dir=str(tmp_path / "cache"),
        )
        data.setup("fit")
        return list(data.train_dataloader())

    assert batches(0.0)
    with pytest.raises(ConfigError, match=r"data\.prompt_loss=0\.5 trains on all tokens, but the data mark 2 answers"):
        batches(0.5)


def test_another_flag_makes_other_tokens(tmp_path: Path) -> None:
    digests, trained = [], []
    for weights in ((1, 1), (1, 0)):
        (tmp_path / "x.jsonl").write_text(records(*weights))
        data = TextData(str(tmp_path / "x.jsonl"), val_size=0, cache_dir=str(tmp_path / "cache"))
        data.setup("fit")
        digests.append(data.prepared.digest)
        trained.append(int(data.prepared.train.trained.sum()))
    assert digests[0] != digests[1]
    assert trained[0] > trained[1]


def test_a_stream_names_the_record_of_an_answer_that_is_cut(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(records(1, 1, 1).replace("Say 2", "Say two").replace("yes", "yes and no"))
    (tmp_path / "cuts.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content.replace('yes and', '') }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    data = TextData(
        str(tmp_path / "x.jsonl"), val_size=0, batching="random", streaming=True, template=str(tmp_path / "cuts.jinja")
    )
    data.setup("fit")
    with pytest.raises(DataError, match=r"x\.jsonl, line 1: the text of the last answer, which begins 'yes and no'"):
        list(data.train_dataloader())
