"""Templates by name and by data format."""

from __future__ import annotations

import pytest

from lightning_neft.data.formats.registry import format_named
from lightning_neft.data.formats.texts import TextFormat
from lightning_neft.data.templates.registry import TEMPLATES, default_template, template_named
from lightning_neft.errors import ConfigError
from words import tokenizer


def test_each_name_gives_the_template_of_that_name() -> None:
    words = tokenizer()
    words.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert [template_named(name, words).name for name in TEMPLATES] == list(TEMPLATES)


def test_an_unknown_name_is_answered_with_the_nearest_and_all() -> None:
    names = f"choose one of {', '.join(TEMPLATES)}, or give a file that ends in .jinja"
    with pytest.raises(ConfigError) as error:
        template_named("vicunna", tokenizer())
    assert str(error.value) == f"there is no template 'vicunna'; did you mean vicuna? {names}"
    with pytest.raises(ConfigError) as error:
        template_named("llama", tokenizer())
    assert str(error.value) == f"there is no template 'llama'; {names}"


def test_the_tokenizers_template_needs_one() -> None:
    with pytest.raises(ConfigError, match="has no chat template"):
        template_named("tokenizer", tokenizer())


def test_each_format_has_its_template() -> None:
    words = tokenizer()
    expected = {
        "alpaca": "alpaca",
        "sharegpt": "vicuna",
        "messages": "chatml",
        "prompt_completion": "plain",
        "text": "plain",
        "source_target": "plain",
        "guanaco": "guanaco",
        "text_label": "plain",
    }
    assert {name: default_template(format_named(name), words).name for name in expected} == expected
    words.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert default_template(format_named("messages"), words).name == "tokenizer"
    assert default_template(format_named("sharegpt"), words).name == "vicuna"


def test_a_format_of_an_unknown_template_is_refused() -> None:
    class Quiz(TextFormat):
        template = "vicunna"

    with pytest.raises(ConfigError, match="there is no template 'vicunna'; did you mean vicuna"):
        default_template(Quiz(), tokenizer())


def test_the_identity_tells_templates_apart() -> None:
    words = tokenizer()
    words.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    identities = {template_named(name, words).identity() for name in TEMPLATES}
    assert len(identities) == len(TEMPLATES)
    before = template_named("tokenizer", words).identity()
    words.chat_template += "{{ '' }}"
    assert template_named("tokenizer", words).identity() != before
