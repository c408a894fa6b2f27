"""A template of the user: a Jinja file that is rendered like a tokenizer's own chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_neft.cli.main import main
from lightning_neft.data.conversation import Conversation
from lightning_neft.data.templates.registry import template_named
from lightning_neft.errors import ConfigError
from lightning_neft.hub.tokenizer import load_tokenizer

TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {{- 'Q: ' + message.content + '\n' if message.role == 'user' else 'A: ' + message.content + eos_token -}}
{%- endfor -%}
{%- if add_generation_prompt -%}A: {% endif -%}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with my.jinja."""
    (tmp_path / "my.jinja").write_text(TEMPLATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_renders_prompt_and_answer(folder: Path) -> None:
    template = template_named("my.jinja", load_tokenizer("tiny"))
    assert template.name == "my.jinja"
    (exchange,) = template.exchanges(Conversation.exchange("1 + 1?", "2"))
    assert (exchange.prompt, exchange.answer, exchange.end) == ("<s>Q: 1 + 1?\nA: ", "2", "</s>")
    assert template.prompt(Conversation.exchange("1 + 1?", ""))[1] == exchange.prompt


def test_the_identity_is_that_of_the_text(folder: Path) -> None:
    before = template_named("my.jinja", load_tokenizer("tiny")).identity()
    (folder / "other.j2").write_text(TEMPLATE)
    assert template_named("other.j2", load_tokenizer("tiny")).identity() == before
    (folder / "my.jinja").write_text(TEMPLATE.replace("Q: ", "Question: "))
    assert template_named("my.jinja", load_tokenizer("tiny")).identity() != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "data.template my.jinja cannot be read: No such file or directory; give a Jinja file, or one of alpaca"),
        (b" \n", "data.template my.jinja is empty; write a chat template into it"),
        (b"\xff\xfe", "data.template my.jinja is not text in UTF-8; save it as such"),
        (b"{% for %}", "the template my.jinja refuses the conversation that begins '?': "),
        (b"{{ ''.__class__.__mro__ }}", "the template my.jinja refuses the conversation that begins '?': "),
        (b"{{ 'x' * 10**11 }}", "the template my.jinja cannot be used: it needs more than 1024 MB"),
        (
            b"{% for m in messages %}{{ m.content if add_generation_prompt else 'no' }}{% endfor %}",
            "the template my.jinja renders a question differently for training and for generation",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(folder: Path, content: bytes | None, message: str) -> None:
    (folder / "my.jinja").unlink()
    if content is not None:
        (folder / "my.jinja").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        template_named("my.jinja", load_tokenizer("tiny"))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_program_renders_with_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"prompt": f"{n}?", "completion": "2"}) + "\n" for n in range(8))
    )
    options = ["--data.source=a.jsonl", "--data.template=my.jinja", "--data.cache_dir=cache", "--samples=1", "--json"]
    assert main(["preview", *options]) in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert found["template"] == "my.jinja"
    assert [part["trained"] for part in found["samples"][0]["parts"]] == [False, True]
    assert found["samples"][0]["parts"][1]["text"] == "2</s>"
