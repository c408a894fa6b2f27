"""Answers: those of single prompts whatever the batch, in the order of the prompts, ended as the template says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from bases import WORDS
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.exchange_ids import exchange_ids, rendered
from lightning_neft.data.templates.bundled import BundledTemplate
from lightning_neft.data.templates.registry import template_named
from lightning_neft.data.templates.template import Template
from lightning_neft.errors import ConfigError, DataError, ModelError
from lightning_neft.generation.answering import Answerer
from lightning_neft.generation.sources import open_answerer
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer, stops
from lightning_neft.models.language_models import CausalLM, Seq2SeqLM
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.folder import save_model
from models.words import fit

PROMPTS = ["a", "b c d e f", "x y", "q r s t u v w", "m", "n o p"]


def asked(prompt: str) -> Conversation:
    return Conversation((Message("user", prompt),))


def answerer(base: str, template: Template | None = None) -> Answerer:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return Answerer(model, load_tokenizer(base), template or BundledTemplate("plain"), name="it")


def by_hand(answers: Answerer, prompt: str, most: int) -> str:
    """Greedy with the penalty on each token that was read or written, and never on anything else."""
    read = list(answers.tokenizer(prompt)["input_ids"])
    start = len(read)
    while len(read) - start < most:
        with torch.no_grad():
            scores = answers.model.eval()(torch.tensor([read])).logits[0, -1]
        for token in set(read):
            scores[token] *= 1 / 1.2 if scores[token] > 0 else 1.2
        if (best := int(scores.argmax())) == answers.tokenizer.eos_token_id:
            break
        read.append(best)
    return answers.tokenizer.decode(read[start:], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6])
def test_a_batch_gives_the_answers_of_single_prompts(base: str, batch_size: int) -> None:
    it = answerer(base)
    # Padding is the end token here: a penalty on it would keep padded rows from ending. It has to be likely for that:
    # just below the best word of the first step, so that the penalty decides in many.
    assert it.tokenizer.pad_token_id is None
    prompts = [" ".join([*WORDS[20 : 20 + number % 8], WORDS[3 + number]]) for number in range(24)]
    with torch.no_grad():
        it.model.lm_head.weight[1] = it.model.lm_head.weight[7] * 1.05
    expected = [by_hand(it, prompt, 12) for prompt in prompts]
    assert len({len(answer.split()) for answer in expected}) > 3
    assert it.answers([asked(prompt) for prompt in prompts], max_new_tokens=12, batch_size=batch_size) == expected


def test_the_longest_prompts_go_first_and_the_order_stays(base: str) -> None:
    it, seen = answerer(base), []
    answers = it.answers(
        [asked(p) for p in PROMPTS], max_new_tokens=3, batch_size=2, on_done=lambda *pair: seen.append(pair)
    )
    assert [index for index, _ in seen] == [3, 1, 5, 2, 0, 4]
    assert [answers[index] for index, _ in seen] == [answer for _, answer in seen]


@pytest.mark.parametrize("positions", [9, 12, 40])
def test_the_room_of_an_answer_does_not_depend_on_its_batch(
    base: str, positions: int, snapshot: Callable[[str], None]
) -> None:
    it = answerer(base)
    it.model.config.max_position_embeddings = positions
    answers = it.answers([asked(prompt) for prompt in PROMPTS], batch_size=6)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        room = positions - 1 - len(prompt.split())
        assert answer == by_hand(it, prompt, room)
        assert len(answer.split()) <= room
    with pytest.raises(DataError, match=f"'a a a .* {positions} positions of it") as caught:
        it.answers([asked("a " * positions)])
    snapshot(str(caught.value))


def test_without_a_limit_prompt_and_answer_are_2048_tokens(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    it, asked_for = answerer(base), []
    it.model.config.max_position_embeddings = 4096

    def write(prompts: Sequence[Sequence[int]], most: int, **_: Any) -> list[list[int]]:
        asked_for.append((len(prompts[0]), most))
        return [[1] for _ in prompts]

    monkeypatch.setattr(it, "_write", write)
    it.answers([asked("a b")])
    it.answers([asked("a b")], max_new_tokens=4000)
    assert asked_for == [(3, 2045), (3, 4000)]
    with pytest.raises(DataError, match=r"2048 tokens; .*max_new_tokens$"):
        it.answers([asked("a " * 2048)])


class Stopping(BundledTemplate):
    def __init__(self, *stop: str) -> None:
        super().__init__("plain")
        self.stop = stop


def test_an_answer_ends_before_a_text_of_the_template(base: str) -> None:
    plain = answerer(base).answers([asked(p) for p in PROMPTS], max_new_tokens=8)
    words = plain[1].split()
    stop = " ".join(words[3:5])
    it = answerer(base, Stopping(stop))
    expected = [answer.partition(stop)[0] for answer in plain]
    assert expected != plain
    for batch_size in (1, 6):
        assert it.answers([asked(p) for p in PROMPTS], max_new_tokens=8, batch_size=batch_size) == expected
    pieces: list[str] = []
    assert it.stream(asked(PROMPTS[1]), pieces.append, max_new_tokens=8) == expected[1]
    assert "".join(pieces) == expected[1]
    assert len(pieces) > 1


@pytest.mark.parametrize("name", ["alpaca", "vicuna", "guanaco", "chatml"])
def test_an_answer_may_contain_turn_starts_and_token_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "POSTGRES_USER: me\nUSER: me\n\n### Instruction:\n### Human: <|im_end|> it is."
    tokenizer = load_tokenizer("tiny")
    template = template_named(name, tokenizer)
    add_special_tokens(tokenizer, template.special_tokens)
    module = CausalLM("tiny")
    module.configure_model()
    it = Answerer(module.model, tokenizer, template, name="it")
    (pairs,) = exchange_ids(
        tokenizer, template, rendered(tokenizer, template, [Conversation.exchange("Q", said)], ["it"])
    )
    ids = [*pairs[0][1], *tokenizer("never", add_special_tokens=False)["input_ids"]]

    def write(prompts: Any, most: int, streamer: Any = None, **_: Any) -> list[list[int]]:
        if streamer is not None:
            for part in (prompts[0], *([token] for token in ids)):
                streamer.put(torch.tensor(part))
            streamer.end()
        return [ids]

    monkeypatch.setattr(it, "_write", write)
    assert it.answers([asked("Q")]) == [said]
    pieces: list[str] = []
    assert it.stream(asked("Q"), pieces.append) == said
    assert "".join(pieces) == said


def test_stop_texts_are_split_into_control_tokens_and_words() -> None:
    tokenizer = load_tokenizer("tiny")
    add_special_tokens(tokenizer, ["<|end|>"])
    assert stops(tokenizer, ["<|end|></s>", "[END]"]) == ([tokenizer.convert_tokens_to_ids("<|end|>")], ["[END]"])


def test_a_streamed_answer_is_that_of_the_batch(base: str) -> None:
    it = answerer(base)
    for prompt, answer in zip(PROMPTS, it.answers([asked(p) for p in PROMPTS], max_new_tokens=6), strict=True):
        pieces: list[str] = []
        assert it.stream(asked(prompt), pieces.append, max_new_tokens=6) == answer
        assert "".join(pieces) == answer


@pytest.mark.parametrize("lora", [None, LoraOptions(r=2)])
def test_a_folder_answers_as_the_model_that_wrote_it(base: str, tmp_path: Path, lora: LoraOptions | None) -> None:
    module = CausalLM(base, lora=lora, learning_rate=0.1, warmup_ratio=0.0)
    fit(module, 2)
    save_model(module, tmp_path / "out")
    loaded = open_answerer(str(tmp_path / "out"), template="plain", device="cpu")
    assert loaded.settings["dtype"] == "float32"
    prompts = [asked(prompt) for prompt in PROMPTS]
    here = Answerer(module.model, module.tokenizer(), BundledTemplate("plain"), name="it")
    assert loaded.answers(prompts, max_new_tokens=6) == here.answers(prompts, max_new_tokens=6)
    untrained = open_answerer(base, template="plain", device="cpu", dtype="float32")
    assert loaded.answers(prompts, max_new_tokens=6) != untrained.answers(prompts, max_new_tokens=6)


def test_an_encoder_decoder_answers_what_its_module_does(encoder_decoder: str) -> None:
    module = Seq2SeqLM(encoder_decoder)
    expected = module.generate(PROMPTS, max_new_tokens=5)
    it = open_answerer(encoder_decoder, template="plain", device="cpu")
    assert it.answers([asked(prompt) for prompt in PROMPTS], max_new_tokens=5, batch_size=4) == expected
    pieces: list[str] = []
    assert it.stream(asked(PROMPTS[1]), pieces.append, max_new_tokens=5) == expected[1]
    assert "".join(pieces) == expected[1]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, r"base.* --template, .*alpaca, vicuna"),
        ({"template": "alpacca"}, r"'alpacca'.*alpaca\?"),
        ({"template": "plain", "device": "cuda:77"}, "--device cuda:77 "),
    ],
    ids=["no template", "a wrong template", "no device"],
)
def test_options_that_do_not_fit_are_refused(
    base: str, options: dict[str, Any], names: str, snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(ConfigError, match=names) as caught:
        open_answerer(base, **options)
    snapshot(str(caught.value).partition("torch finds")[0])


def test_folders_that_hold_no_model_are_refused(base: str, tmp_path: Path, snapshot: Callable[[str], None]) -> None:
    with pytest.raises(ModelError, match=r"config\.json .*adapter_config\.json") as empty:
        open_answerer(str(tmp_path), template="plain")
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match=rf"did you mean {tmp_path}/model\?") as above:
        open_answerer(f"{tmp_path}/", template="plain")
    snapshot(f"{empty.value}\n{above.value}")
    with pytest.raises(ConfigError, match=r"max_new_tokens .*0"):
        answerer(base).answers([asked("a")], max_new_tokens=0)
