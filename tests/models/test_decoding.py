"""Generation: greedy with the penalty, the same for a batch as for one prompt, and nothing left changed."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models.decoding import generate_answers
from lightning_neft.models.language_models import CausalLM
from tiny import trainer

PROMPTS = ["a", "b c d e f", "x y", "q r s t u v w", "m"]


def greedy_by_hand(model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompt: str, steps: int) -> str:
    """Repetition penalty of 1.2: positive scores of tokens seen so far are divided by it, negative ones multiplied."""
    ids = tokenizer(prompt)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    written: list[int] = []
    for _ in range(steps):
        with torch.no_grad():
            scores = model(torch.tensor([ids + written])).logits[0, -1]
        for token in set(ids + written):
            scores[token] = scores[token] / 1.2 if scores[token] > 0 else scores[token] * 1.2
        token = int(scores.argmax())
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
    return tokenizer.decode(written, skip_special_tokens=True)


def test_answers_are_those_of_a_plain_loop(base: str) -> None:
    tokenizer, plain = load_tokenizer(base), AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    expected = [greedy_by_hand(plain, tokenizer, prompt, steps=6) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    model = CausalLM(base)
    for batch_size in (1, 2, 5):
        assert model.generate(PROMPTS, max_new_tokens=6, batch_size=batch_size) == expected, batch_size


def test_padding_of_a_prompt_is_not_penalised(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = AutoModelForCausalLM.from_pretrained(base), []
    generate = model.generate

    def recorded(input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> torch.Tensor:
        read.extend(zip(input_ids, attention_mask.bool(), strict=True))
        return generate(input_ids=input_ids, attention_mask=attention_mask, **options)

    monkeypatch.setattr(model, "generate", recorded)
    generate_answers(model, load_tokenizer(base), PROMPTS, max_new_tokens=1)
    assert [len(ids[mask]) for ids, mask in read] == [2, 6, 3, 8, 2]
    for ids, mask in read:
        assert len(ids) == 8
        assert set(ids.tolist()) == set(ids[mask].tolist())


def test_prompts_may_be_ids(base: str) -> None:
    model, tokenizer = CausalLM(base), load_tokenizer(base)
    ids = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    assert model.generate(ids, max_new_tokens=4) == model.generate(PROMPTS, max_new_tokens=4)


def test_predicting_ends_at_the_stop_tokens_of_the_data(base: str) -> None:
    model, data = CausalLM(base), L.LightningDataModule()
    (answer,) = model.generate(PROMPTS[:1])
    data.predict_dataloader = lambda: DataLoader(PROMPTS[:1], collate_fn=list)  # type: ignore[method-assign]
    data.stop_ids = model.tokenizer()(answer.split()[1], add_special_tokens=False)["input_ids"]
    assert trainer().predict(model, data) == [[answer.split()[0]]]


def test_an_answer_ends_before_a_stop_token(base: str) -> None:
    model, tokenizer = CausalLM(base), load_tokenizer(base)
    answers = model.generate(PROMPTS, max_new_tokens=6)
    stop = answers[0].split()[2]
    (stop_id,) = tokenizer(stop, add_special_tokens=False)["input_ids"]
    expected = [
        " ".join(answer.split()[: answer.split().index(stop)]) if stop in answer else answer for answer in answers
    ]
    assert expected != answers
    assert any(answer in answers for answer in expected)
    assert model.generate(PROMPTS, max_new_tokens=6, stop_ids=[stop_id]) == expected


def test_no_prompt_gives_no_answer(base: str) -> None:
    assert CausalLM(base).generate([]) == []


def test_each_module_gets_its_mode_back(base: str) -> None:
    model = CausalLM(base)
    model.configure_model()
    frozen = model.model.model.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    assert len(set(before.values())) == 2
    model.generate(["a"], max_new_tokens=2)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert not frozen.training


def test_each_module_gets_its_mode_back_after_an_error(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CausalLM(base)
    model.configure_model()

    def fail(**options: object) -> None:
        assert not model.model.training
        assert not torch.is_grad_enabled()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        model.generate(["a"])
    assert model.model.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("bos", "begin"), [("<s>", "<s>"), (None, "</s>")])
def test_a_prompt_of_no_token_begins_with_what_parts_texts(
    bos: str | None, begin: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = CausalLM(base), load_tokenizer(base)
    tokenizer.bos_token = bos
    monkeypatch.setattr(model, "tokenizer", lambda: tokenizer)
    prompts = [[], tokenizer.convert_tokens_to_ids(["b", "c", "d"])]
    expected = model.generate([tokenizer.convert_tokens_to_ids([begin]), prompts[1]], max_new_tokens=4)
    assert model.generate(prompts, max_new_tokens=4) == expected


@pytest.mark.parametrize("has_adapters", [False, True])
@pytest.mark.parametrize(
    "asks",
    [
        {"suppress_tokens": list(range(0, 1000, 2))},
        {"forced_eos_token_id": 5},
        {"sequence_bias": [[[5], 100.0]]},
        {"guidance_scale": 5.0},
        {"max_time": 0.0},
        {"stop_strings": ["a"]},
        {"return_dict_in_generate": True, "output_scores": True},
        {"bad_words_ids": "x"},
        {"penalty_alpha": 0.6, "top_k": 4},
    ],
    ids=lambda asks: next(iter(asks)),
)
def test_the_generation_config_of_the_model_is_ignored(asks: dict[str, Any], has_adapters: bool, base: str) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base).eval()
    tokenizer = load_tokenizer(base)
    expected = generate_answers(model, tokenizer, ["Name a fruit."], max_new_tokens=6)
    if has_adapters:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    own = model.generation_config
    for name, value in asks.items():
        setattr(own, name, value)
    assert generate_answers(model, tokenizer, ["Name a fruit."], max_new_tokens=6) == expected
    assert model.generation_config is own
