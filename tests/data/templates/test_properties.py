"""What holds of each template for any conversation: nothing lost, labels on the answers alone, cuts that only cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.templates.registry import TEMPLATES, template_named
from lightning_neft.data.templates.template import Template
from lightning_neft.data.tokenization import IGNORED, PROMPT_FILLS, encode
from lightning_neft.errors import DataError
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer

# The tokenizer's own template needs one that has it: tests/data/templates/test_chat_template.py.
NAMES = [name for name in TEMPLATES if name != "tokenizer"]
TOKENIZER = load_tokenizer("tiny")
for _name in NAMES:
    add_special_tokens(TOKENIZER, template_named(_name, TOKENIZER).special_tokens)
LONG = 10_000

# Printable ASCII and line ends: what the tiny tokenizer gives back as it was.
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.just("\n"), min_size=1, max_size=12).filter(
    str.strip
)
answers = st.one_of(texts, st.just(""))
turns = st.lists(st.tuples(texts, answers), min_size=1, max_size=3).filter(lambda pairs: any(a for _, a in pairs))


@st.composite
def talks(draw: st.DrawFn) -> Conversation:
    said = [Message("system", draw(texts))] if draw(st.booleans()) else []
    for question, answer in draw(turns):
        said += [Message("user", question, draw(st.sampled_from(["", "1 2"]))), Message("assistant", answer)]
    return Conversation(tuple(said))


def decoded(ids: list[int]) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def ids_and_labels(talk: Conversation, template: Template) -> tuple[list[int], list[int]]:
    (sample,) = encode([talk], TOKENIZER, template, max_length=LONG).samples
    return list(map(int, sample.input_ids)), list(map(int, sample.labels))


@pytest.mark.parametrize("name", NAMES)
@given(talk=talks())
def test_the_tokens_say_what_the_template_says(name: str, talk: Conversation) -> None:
    template = template_named(name, TOKENIZER)
    exchanges = template.exchanges(talk)
    ids, _ = ids_and_labels(talk, template)
    ends = [TOKENIZER.eos_token if exchange.end is None else exchange.end for exchange in exchanges]
    said = "".join(one.prompt + one.answer + end for one, end in zip(exchanges, ends, strict=True))
    assert decoded(ids) == TOKENIZER.bos_token + said
    for message in talk.messages:
        assert message.content in said


@pytest.mark.parametrize("name", NAMES)
@given(talk=talks())
def test_only_answers_and_their_ends_have_a_loss(name: str, talk: Conversation) -> None:
    template = template_named(name, TOKENIZER)
    ids, labels = ids_and_labels(talk, template)
    assert len(ids) == len(labels)
    assert labels[0] == IGNORED
    assert all(label in (token, IGNORED) for token, label in zip(ids, labels, strict=True))
    end = template.exchanges(talk)[0].end or TOKENIZER.eos_token
    # Said anew, from the messages: the answers that are not empty, each with what leads to it and what ends it.
    expected = [template.lead + m.content + end for m in talk.messages if m.role == "assistant" and m.content]
    assert decoded([label for label in labels if label != IGNORED]) == "".join(expected)


@pytest.mark.parametrize("name", NAMES)
@given(talk=talks(), max_length=st.integers(1, 120))
def test_a_cut_sample_is_the_beginning_of_the_whole_one(name: str, talk: Conversation, max_length: int) -> None:
    template = template_named(name, TOKENIZER)
    ids, labels = ids_and_labels(talk, template)
    (opening,) = encode_prompts(TOKENIZER, template, [Conversation((Message("user", ""),))])
    if len(opening) >= max_length and set(labels[:max_length]) == {IGNORED}:
        with pytest.raises(DataError, match=f"max_length={max_length} leaves no room for an answer"):
            encode([talk], TOKENIZER, template, max_length=max_length)
        return
    encoding = encode([talk], TOKENIZER, template, max_length=max_length)
    if set(labels[:max_length]) == {IGNORED}:
        assert (encoding.samples, encoding.dropped) == ([], {PROMPT_FILLS: 1})
    else:
        (sample,) = encoding.samples
        np.testing.assert_array_equal(sample.input_ids, ids[:max_length])
        np.testing.assert_array_equal(sample.labels, labels[:max_length])
        assert encoding.truncated == (len(ids) > max_length)


@pytest.mark.parametrize("name", NAMES)
@given(talk=talks())
def test_generation_is_fed_the_beginning_of_what_was_trained(name: str, talk: Conversation) -> None:
    template = template_named(name, TOKENIZER)
    ids, _ = ids_and_labels(talk, template)
    (prompt,) = encode_prompts(TOKENIZER, template, [talk])
    assert ids[: len(prompt)] == prompt
