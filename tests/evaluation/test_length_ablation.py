"""The length ablation: the paper's sentences where they belong, and an end that is blocked and then is not."""

from __future__ import annotations

import pytest

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.templates.bundled import BundledTemplate
from lightning_neft.errors import ConfigError
from lightning_neft.evaluation.length_ablation import Variant, answer_variant, variants
from lightning_neft.generation.answering import Answerer
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models.weights import load_weights

ASKED = [Conversation.exchange(f"Say {word}.", "") for word in ("cat", "the dog and the hen", "owl")]


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    model, _ = load_weights("AutoModelForCausalLM", "tiny")
    return Answerer(model, load_tokenizer("tiny"), BundledTemplate("plain"), name="it")


def test_the_variants_are_those_of_the_paper() -> None:
    found = {variant.name: (variant.sentence, variant.min_new_tokens) for variant in variants()}
    assert found == {
        "plain": ("", 0),
        "long": ("Generate a long response", 0),
        "comprehensive": ("Generate a comprehensive response", 0),
        "long_comprehensive": ("Generate a long and comprehensive response.", 0),
        "min_new_tokens": ("", 250),
    }


def test_only_the_end_of_the_last_instruction_changes() -> None:
    asked = Conversation(
        (
            Message("user", "Hi."),
            Message("assistant", "Yes?"),
            Message("user", "Why?", "the sky"),
            Message("assistant", "So."),
        )
    )
    found = Variant("long", "Generate a long response").ask(asked)
    assert found.messages == (*asked.messages[:2], Message("user", "Why?\nGenerate a long response", "the sky"))
    assert Variant("plain").ask(asked) == asked.prompt


def test_the_plain_variant_is_the_plain_model(answerer: Answerer) -> None:
    found = answer_variant(answerer, Variant("plain"), ASKED, max_new_tokens=20)
    assert found == answerer.answers(ASKED, max_new_tokens=20)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_no_answer_ends_while_the_end_is_blocked(answerer: Answerer, batch_size: int) -> None:
    def ids(text: str) -> list[int]:
        found: list[int] = answerer.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    free = [ids(answer) for answer in answerer.answers(ASKED, max_new_tokens=12)]
    ending = Answerer(answerer.model, answerer.tokenizer, BundledTemplate("plain"), name="ends soon")
    ending.ends = [*answerer.ends, *(tokens[6] for tokens in free)]
    options = {"max_new_tokens": 60, "batch_size": batch_size}
    plain = answer_variant(ending, Variant("plain"), ASKED, **options)  # type: ignore[arg-type]
    assert all(len(ids(answer)) <= 7 for answer in plain), "the test would pass without a block"
    longer = answer_variant(ending, Variant("more", min_new_tokens=30), ASKED, **options)  # type: ignore[arg-type]
    # Nothing else changes: what stood before the end stays, and what is blocked is not written.
    for short, long in zip(plain, longer, strict=True):
        assert long.startswith(short)
        assert 28 <= len(ids(long)) <= 60
        assert not set(ids(long)[:28]) & set(ending.ends)


def test_numbers_that_cannot_be_are_refused(answerer: Answerer) -> None:
    with pytest.raises(ConfigError, match="max_new_tokens=10 is less than the 250 tokens"):
        answer_variant(answerer, variants()[-1], ASKED, max_new_tokens=10)
    with pytest.raises(ConfigError, match="min_new_tokens must be 1 or more, got 0"):
        variants(0)
    with pytest.raises(ConfigError, match="min_new_tokens must be 0 or more, got -1"):
        answerer.answers(ASKED, min_new_tokens=-1)
