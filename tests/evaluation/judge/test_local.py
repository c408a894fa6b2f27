"""The judge on this machine: the likelier letter, every time the same, and nothing where the pair does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.evaluation.judge.contest import Pair, combine, requests_of
from lightning_neft.evaluation.judge.ledger import Ledger
from lightning_neft.evaluation.judge.local import LocalJudge
from lightning_neft.evaluation.judge.panel import Panel
from lightning_neft.evaluation.judge.request import JudgeRequest, prompt_text
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models.weights import load_weights


@pytest.fixture(scope="module")
def judge() -> LocalJudge:
    return LocalJudge("tiny")


@pytest.mark.parametrize("answers", [("cat", "dog"), ("dog", "cat"), ("", "a much longer answer, in many words")])
def test_the_letter_is_the_likelier_one(answers: tuple[str, str], judge: LocalJudge) -> None:
    prompt = prompt_text(JudgeRequest("Say cat.", *answers))
    model, _ = load_weights("AutoModelForCausalLM", "tiny")
    tokenizer = load_tokenizer("tiny")
    likelihood = {}
    for letter in "AB":
        ids = torch.tensor([tokenizer(f"{prompt}\n\nBetter answer: {letter}")["input_ids"]])
        if tokenizer.eos_token_id == ids[0, -1]:
            ids = ids[:, :-1]
        with torch.no_grad():
            logs = model(input_ids=ids).logits.log_softmax(-1)
        likelihood[letter] = logs[0, :-1].gather(-1, ids[0, 1:, None]).sum().item()
    assert judge.ask(prompt, "key", 0).text == max(likelihood, key=lambda letter: likelihood[letter])


def test_a_chat_template_is_used_where_there_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(TINY, folder)
    messages = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    template = messages + "{% if add_generation_prompt %}<assistant>{% endif %}"
    (folder / "chat_template.jinja").write_text(template)
    judge = LocalJudge(str(folder))
    first, second = judge._encoded("Which?")
    assert judge._tokenizer.decode(first).replace(" ", "") == "<user>Which?<assistant>A"
    assert judge._tokenizer.decode(second).replace(" ", "") == "<user>Which?<assistant>B"


def test_a_panel_is_judged_the_same_twice_without_malformed(judge: LocalJudge, tmp_path: Path) -> None:
    pairs = [Pair(f"Say {word}.", word, f"{word} and more") for word in ("cat", "dog", "hen")]
    found = [
        combine(pairs, Panel(judge, Ledger(tmp_path / name)).ask_all(requests_of(pairs))) for name in ("one", "two")
    ]
    assert found[0] == found[1]
    assert found[0].n_malformed == 0


def test_a_pair_that_does_not_fit_is_left_out(judge: LocalJudge, tmp_path: Path) -> None:
    pairs = [Pair("Say cat.", "cat " * 2000, "cat"), Pair("Say dog.", "dog", "cat")]
    found = combine(pairs, Panel(judge, Ledger(tmp_path / "verdicts")).ask_all(requests_of(pairs)))
    assert found.preferences[0] is None
    assert found.preferences[1] is not None
    assert found.n_malformed == 2


def test_other_weights_under_the_same_name_are_another_judge(tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    shutil.copytree(TINY, folder)
    before = LocalJudge(str(folder)).name
    assert LocalJudge(str(folder)).name == before
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"rope_theta": 10000.0', '"rope_theta": 9000.0'))
    assert LocalJudge(str(folder)).name != before


def test_a_missing_folder_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"model base './nowhere': no such folder"):
        LocalJudge("./nowhere")


def test_a_chat_template_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_neft.common.limits._SECONDS", 1)
    folder = tmp_path / "chat"
    shutil.copytree(TINY, folder)
    (folder / "chat_template.jinja").write_text("{{ 'x' * 10 ** 10 }}")
    with pytest.raises(ConfigError, match="chat template cannot be used: it needs more than 1024 MB"):
        LocalJudge(str(folder))
