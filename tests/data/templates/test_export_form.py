"""Chat templates for the tokenizer alone: the very ids of training, or none at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.templates.bundled import BUNDLED, BundledTemplate
from lightning_neft.data.templates.registry import chat_template_of, template_named
from lightning_neft.data.tokenization import encode
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer

TALKS = [
    [("user", "Name a bird."), ("assistant", "A hen.")],
    [
        ("user", "1 + 1?"),
        ("assistant", "2"),
        ("user", "Plus 3?"),
        ("assistant", "5"),
        ("user", "x"),
        ("assistant", "y"),
    ],
    [("system", "Answer in one word."), ("user", "Up?"), ("assistant", "Down.")],
    [("system", "One."), ("system", "Two."), ("user", "Up?"), ("user", "Or?"), ("assistant", "Down.")],
    [("user", "Up?"), ("assistant", "Down."), ("system", "Shout."), ("user", "Or?"), ("assistant", "OR!")],
]


@pytest.mark.parametrize("name", [name for name, entry in BUNDLED.items() if not entry.is_raw])
@pytest.mark.parametrize("talk", TALKS)
def test_the_tokenizer_alone_gives_the_ids_of_training(name: str, talk: list[tuple[str, str]]) -> None:
    tokenizer = load_tokenizer("tiny")
    template = template_named(name, tokenizer)
    add_special_tokens(tokenizer, template.special_tokens)
    text = chat_template_of(template, tokenizer)
    assert text is not None
    tokenizer.chat_template = text
    conversation = Conversation(tuple(Message(*turn) for turn in talk))
    (sample,) = encode([conversation], tokenizer, template, max_length=1000).samples
    messages = [{"role": role, "content": content} for role, content in talk]
    assert tokenizer.apply_chat_template(messages, return_dict=False) == list(sample.input_ids)
    asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert asked == list(sample.input_ids)[: len(asked)]
    assert set(list(sample.labels)[len(asked) :]) != {-100}
    assert sample.labels[len(asked) - 1] == -100


def test_plain_text_and_the_tokenizers_own_have_none() -> None:
    tokenizer = load_tokenizer("tiny")
    assert chat_template_of(template_named("plain", tokenizer), tokenizer) is None
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ 'assistant: ' if add_generation_prompt }}"
    )
    assert chat_template_of(template_named("tokenizer", tokenizer), tokenizer) is None


def test_one_of_a_file_is_written_as_it_is(tmp_path: Path) -> None:
    text = "{% for m in messages %}{{ m.content + eos_token if m.role == 'assistant' else m.content }}{% endfor %}"
    file = tmp_path / "my.jinja"
    file.write_text(text)
    tokenizer = load_tokenizer("tiny")
    assert chat_template_of(template_named(str(file), tokenizer), tokenizer) == text


def test_one_that_gives_other_ids_is_not_written() -> None:
    class Spaced(BundledTemplate):
        def _prompt(self, turn: Sequence[Message], first: bool, tools: str = "") -> str:
            return super()._prompt(turn, first, tools) + " "

    tokenizer = load_tokenizer("tiny")
    assert chat_template_of(BundledTemplate("vicuna"), tokenizer) is not None
    assert chat_template_of(Spaced("vicuna"), tokenizer) is None
