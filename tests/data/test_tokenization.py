"""What is trained, cut, dropped and refused; ids of the templates are in templates/test_ids.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tokenizers import processors

from lightning_neft.data.conversation import Conversation, Labelled, Message
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.templates.bundled import BundledTemplate
from lightning_neft.data.tokenization import Encoding, encode, label_names
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.hub.tokenizer import load_tokenizer
from words import talk, tokenizer

PLAIN = BundledTemplate("plain")


def lists(encoding: Encoding) -> list[tuple[list[int], list[int]]]:
    return [(list(sample.input_ids), list(sample.labels)) for sample in encoding.samples]


def test_arrays_are_int32() -> None:
    (sample,) = encode([talk("Say", "hello")], tokenizer(), PLAIN, max_length=9).samples
    assert isinstance(sample.input_ids, np.ndarray)
    assert isinstance(sample.labels, np.ndarray)
    assert (sample.input_ids.dtype, sample.labels.dtype) == (np.int32, np.int32)


def test_long_samples_are_cut_from_the_end_and_counted() -> None:
    samples = [
        talk("Say", "hello now"),  # <s> Say hello now </s>: five tokens, the end is lost
        talk("Say", "bye"),  # exactly four
        talk("Say", "bye", "now", "hello"),  # the second turn is lost
        talk("Say Say Say", "bye"),  # the prompt alone has four
        talk("Say Say", "bye"),  # one token of the answer is left
        talk("Say Say Say Say", "bye"),  # the prompt alone has five
    ]
    encoding = encode(samples, tokenizer(), PLAIN, max_length=4)
    assert lists(encoding) == [
        ([0, 58, 62, 67], [-100, -100, 62, 67]),
        ([0, 58, 64, 1], [-100, -100, 64, 1]),
        ([0, 58, 64, 1], [-100, -100, 64, 1]),
        ([0, 58, 59, 64], [-100, -100, -100, 64]),
    ]
    assert (encoding.kept, encoding.truncated) == ([0, 1, 2, 4], 3)
    assert encoding.dropped == {"prompt fills max_length": 2}
    assert encoding.notices("training", 4) == [
        "training data: 3 of 6 samples truncated to 4 tokens",
        "training data: 2 of 6 samples dropped: prompt fills max_length",
    ]


def test_samples_without_an_answer_are_dropped_and_counted() -> None:
    samples = [talk("Say", ""), talk("Say", "hello"), talk("Say", " \n"), talk("Say"), talk("Say", "", "now", "")]
    encoding = encode(samples, tokenizer(), PLAIN, max_length=9)
    assert (encoding.kept, encoding.dropped, encoding.truncated) == ([1], {"empty answer": 4}, 0)
    assert encoding.notices("held-out", 9) == ["held-out data: 4 of 5 samples dropped: empty answer"]


def test_an_empty_answer_among_others_is_read_and_not_trained() -> None:
    encoding = encode([talk("Say", "", "now", "hello")], tokenizer(), PLAIN, max_length=9)
    assert lists(encoding) == [([0, 58, 1, 66, 62, 1], [-100, -100, -100, -100, 62, 1])]
    assert encoding.untrained == 1
    assert len(encoding.notices("training", 9)) == 1


def test_nothing_is_said_where_all_is_well() -> None:
    encoding = encode([talk("Say", "hello")], tokenizer(), PLAIN, max_length=9)
    assert encoding.notices("training", 9) == []


def test_strict_refuses_what_would_be_dropped(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(DataError) as error:
        encode([talk("Say", "hello"), talk("Say now", "")], tokenizer(), PLAIN, max_length=9, strict=True)
    snapshot(text := str(error.value))
    assert "'Say now'" in text


def test_the_first_token_is_never_trained() -> None:
    # Nothing predicts it: in a packed row the token before it is another sample's.
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    text = Conversation((Message("assistant", "hello now"),))
    assert lists(encode([text], words, PLAIN, max_length=9)) == [([62, 67, 1], [-100, 67, 1])]
    assert encode([text], words, PLAIN, max_length=1).dropped == {"prompt fills max_length": 1}


def test_a_prompt_does_not_merge_with_its_answer() -> None:
    words = tokenizer()
    # ":!" is one token of the text ":!", so the prompt's ":" would be lost.
    assert words("Say:!", add_special_tokens=False)["input_ids"] == [58, 69]
    encoding = encode([talk("Say:", "! hello", "Say:", "!")], words, PLAIN, max_length=20)
    assert lists(encoding) == [
        ([0, 58, 4, 68, 63, 1, 58, 4, 68, 1], [-100, -100, -100, 68, 63, 1, -100, -100, 68, 1]),
    ]
    assert encode_prompts(words, PLAIN, [talk("Say:", "! hello", "Say:", "!")]) == [[0, 58, 4, 68, 63, 1, 58, 4]]


def test_a_prompt_has_no_end_token_of_the_tokenizer() -> None:
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert encode_prompts(words, PLAIN, [talk("Say")]) == [[0, 58]]
    assert lists(encode([talk("Say", "hello")], words, PLAIN, max_length=9)) == [([0, 58, 62, 1], [-100, -100, 62, 1])]


def test_no_prompts_and_no_samples() -> None:
    assert encode_prompts(tokenizer(), PLAIN, []) == []
    assert lists(encode([], tokenizer(), PLAIN, max_length=9)) == []


def test_more_samples_than_one_batch_keep_their_order() -> None:
    samples = [talk("Say", "hello" if number % 3 else "") for number in range(2500)]
    encoding = encode(samples, tokenizer(), PLAIN, max_length=9)
    assert encoding.kept == [number for number in range(2500) if number % 3]
    assert encoding.dropped == {"empty answer": 834}


def test_a_prefix_space_does_not_enter_a_conversation() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1, "▁a": 2, "a": 3, "▁b": 4, "b": 5}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    words = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>", unk_token="<unk>")
    words.add_special_tokens({"eos_token": "</s>"})
    assert words("a</s>b", add_special_tokens=False)["input_ids"] == [2, 0, 5]
    (sample,) = encode([talk("a", " b", "b", " a")], words, PLAIN, max_length=9).samples
    assert list(sample.input_ids) == [2, 4, 0, 5, 2, 0]
    assert encode_prompts(words, PLAIN, [talk("a", " b", "b", " a")]) == [[2, 4, 0, 5]]


def test_an_answer_does_not_merge_with_the_next_prompt() -> None:
    template = BundledTemplate("plain")
    template._end = ":"
    # ":" before "! now" would be the one token ":!".
    (sample,) = encode([talk("Say", "hello", "! now", "bye")], tokenizer(), template, max_length=20).samples
    assert list(sample.input_ids) == [0, 58, 62, 4, 68, 67, 64, 4]
    assert list(sample.labels) == [-100, -100, 62, 4, -100, -100, 64, 4]


def test_a_template_longer_than_max_length_is_refused(snapshot: Callable[[str], None]) -> None:
    # 18 tokens of sentences, then "\n\n### Instruction:\n" and "\n\n### Response:" with <s>
    with pytest.raises(DataError) as error:
        encode([talk("Say", "hello")], tokenizer(), BundledTemplate("alpaca"), max_length=34)
    snapshot(str(error.value))
    assert encode([talk("", "hello")], tokenizer(), BundledTemplate("alpaca"), max_length=35).kept == [0]
    assert encode([talk("Say", "hello")], tokenizer(), BundledTemplate("alpaca"), max_length=35).kept == []
    # Its own sentence is not there when a system message takes its place.
    samples = [talk("Say", "hello", system="Be kind"), talk("Say", "hello")]
    assert encode(samples, tokenizer(), BundledTemplate("alpaca"), max_length=30).kept == [0]


def test_the_task_and_the_kind_of_samples_must_fit() -> None:
    with pytest.raises(ConfigError) as error:
        encode([Labelled("hello", 1)], tokenizer(), PLAIN, max_length=9)
    assert str(error.value) == (
        "the task causal_lm cannot be trained on texts with labels; choose the task sequence_classification, or other "
        "data"
    )
    with pytest.raises(ConfigError) as error:
        encode([talk("A", "B")], tokenizer(), PLAIN, task="sequence_classification", max_length=9)
    assert str(error.value) == (
        "the task sequence_classification cannot be trained on conversations; choose the task causal_lm or seq2seq_lm, "
        "or other data"
    )


# Classification


def with_marks_around() -> Any:
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return words


def test_truncated_texts_keep_the_marks_of_the_tokenizer() -> None:
    samples = [Labelled("hello now", "good"), Labelled("bye now now now", "bad"), Labelled("", "bad")]
    encoding = encode(
        samples, with_marks_around(), PLAIN, task="sequence_classification", max_length=4, labels=["bad", "good"]
    )
    assert lists(encoding) == [([0, 62, 67, 1], [1]), ([0, 64, 67, 1], [0]), ([0, 1], [0])]
    assert (encoding.kept, encoding.truncated, encoding.dropped) == ([0, 1, 2], 1, {})


def test_a_text_without_tokens_is_dropped() -> None:
    samples = [Labelled("hello", "good"), Labelled("", "bad")]
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    encoding = encode(samples, words, PLAIN, task="sequence_classification", max_length=4, labels=["bad", "good"])
    assert (encoding.kept, encoding.dropped) == ([0], {"empty text": 1})


def test_an_unknown_label_is_refused(snapshot: Callable[[str], None]) -> None:
    samples = [Labelled("Say hello", "ugly")]
    with pytest.raises(DataError) as error:
        encode(samples, tokenizer(), PLAIN, task="sequence_classification", max_length=4, labels=["bad", "good"])
    snapshot(text := str(error.value))
    assert all(part in text for part in ("'ugly'", "'Say hello'", "'bad'", "'good'"))


def test_label_names_are_sorted_numbers_by_value() -> None:
    assert label_names([Labelled("", label) for label in (10, 2, 2, 1)]) == [1, 2, 10]
    assert label_names([Labelled("", label) for label in ("b", "a", "b", 3)]) == [3, "a", "b"]
    assert label_names([talk("A", "B")]) == []


# Encoder-decoders


def like_t5() -> Any:
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return words


def test_the_encoder_reads_the_prompt_the_decoder_the_answer() -> None:
    encoding = encode([talk("Say", "hello now")], like_t5(), PLAIN, task="seq2seq_lm", max_length=9)
    assert lists(encoding) == [([58, 1], [62, 67, 1])]


def test_a_target_ends_with_an_end_token() -> None:
    encoding = encode([talk("Say", "hello now")], tokenizer(), PLAIN, task="seq2seq_lm", max_length=9)
    assert lists(encoding) == [([0, 58], [0, 62, 67, 1])]


def test_seq2seq_lengths_are_cut_apart() -> None:
    samples = [talk("Say Say Say", "hello"), talk("Say", "hello now now"), talk("Say", "bye")]
    encoding = encode(samples, like_t5(), PLAIN, task="seq2seq_lm", max_length=3, max_target_length=2)
    # The encoder's end token stays; a target that is cut has no end.
    assert lists(encoding) == [([58, 59, 1], [62, 1]), ([58, 1], [62, 67]), ([58, 1], [64, 1])]
    assert encoding.truncated == 2


def test_the_encoder_reads_all_before_the_last_answer() -> None:
    conversation = talk("Say", " hello", "now", "bye")
    encoding = encode([conversation], like_t5(), PLAIN, task="seq2seq_lm", max_length=9)
    assert lists(encoding) == [([58, 63, 1, 66, 1], [64, 1])]
    assert encoding.untrained == 1


def test_a_seq2seq_sample_without_a_last_answer_is_dropped() -> None:
    samples = [talk("Say", "hello", "now", ""), talk("Say"), talk("Say", "hello")]
    encoding = encode(samples, like_t5(), PLAIN, task="seq2seq_lm", max_length=9)
    assert (encoding.kept, encoding.dropped) == ([2], {"empty answer": 2})


def test_a_template_that_fills_the_encoder_is_refused() -> None:
    with pytest.raises(DataError, match=r"max_length=20 leaves no room .* alone takes 33 tokens"):
        encode([talk("Say", "hello")], like_t5(), BundledTemplate("alpaca"), task="seq2seq_lm", max_length=20)


# Against the masking of the training scripts that the templates come from, restated from what they do


QUESTIONS = [
    ("Name a fruit.", "", "An apple."),
    ("Add the numbers.", "3 + 4", "7\n\nThat is all."),
    ("Write  two   spaces", " leading", " also leading and trailing "),
    ("Ünïcode → ✓", "", "日本語"),
    ("Repeat: ### Response:", "", "### Response: done"),
]


def stanford(tokens: Any, source: str, target: str, max_length: int) -> tuple[list[int], list[int]]:
    """Tokenise source and target as one text, mask as many tokens as the source alone has, cut at the end."""
    ids = tokens(source + target + tokens.eos_token)["input_ids"][:max_length]
    masked = len(tokens(source)["input_ids"][:max_length])
    return ids, [-100] * masked + ids[masked:]


@pytest.mark.parametrize("max_length", [1000, 56])
def test_alpaca_is_trained_as_by_the_authors(max_length: int) -> None:
    tiny = load_tokenizer("tiny")
    samples = [Conversation.exchange(task, answer, context=context) for task, context, answer in QUESTIONS]
    expected = []
    for task, context, target in QUESTIONS:
        kind = ", paired with an input that provides further context." if context else "."
        source = (
            f"Below is an instruction that describes a task{kind} Write a response that appropriately completes the "
            f"request.\n\n### Instruction:\n{task}\n\n"
            + (f"### Input:\n{context}\n\n" if context else "")
            + "### Response:"
        )
        expected.append(stanford(tiny, source, target, max_length))
    encoding = encode(samples, tiny, BundledTemplate("alpaca"), max_length=max_length)
    trainable = [row for row in expected if any(label != -100 for label in row[1])]
    assert lists(encoding) == trainable
    assert len(trainable) == len(samples) if max_length == 1000 else 0 < len(trainable) < len(samples)


def fastchat(tokens: Any, turns: Sequence[str]) -> tuple[list[int], list[int]]:
    """Tokenise the rendered conversation, then find the answers by counting the tokens of its parts."""
    text = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    )
    for question, reply in zip(turns[::2], turns[1::2], strict=True):
        text += f"USER: {question} ASSISTANT: {reply}</s>"
    ids = tokens(text)["input_ids"]
    labels = list(ids)
    labels[0] = -100
    position = 1
    for turn in text.split("</s>")[:-1]:
        opening = turn.split(" ASSISTANT: ")[0] + " ASSISTANT: "
        # Without <s>, and without the space at its end, which is part of the answer's first token.
        masked = len(tokens(opening)["input_ids"]) - 2
        labels[position : position + masked] = [-100] * masked
        position += len(tokens(turn)["input_ids"])  # its <s> stands for the </s> that it has lost
    assert position == len(ids)
    return ids, labels


def test_vicuna_is_trained_as_by_fastchat() -> None:
    tiny = load_tokenizer("tiny")
    conversations = [
        ("Hello!", "Hi!"),
        ("Hello!", "Hi!", "How are you?", "Fine, thanks.\n\nAnd you?", "Good.", "Good to hear."),
        ("Zähle:", "1, 2, 3", "Und?", "4 → 5"),
    ]
    encoding = encode([talk(*turns) for turns in conversations], tiny, BundledTemplate("vicuna"), max_length=1000)
    assert lists(encoding) == [fastchat(tiny, turns) for turns in conversations]


@pytest.mark.parametrize("template", [BundledTemplate(name) for name in ("alpaca", "vicuna", "guanaco", "plain")])
def test_subword_prompts_are_the_ids_before_each_answer(template: Any) -> None:
    tiny = load_tokenizer("tiny")
    turns = [text for task, _, answer in QUESTIONS for text in (task, answer)]
    for count in range(2, len(turns) + 1, 2):
        (sample,) = encode([talk(*turns[:count])], tiny, template, max_length=2000).samples
        (prompt,) = encode_prompts(tiny, template, [talk(*turns[:count])])
        assert sample.input_ids[: len(prompt)].tolist() == prompt
        # All the rest is the last answer, and nothing of it is in the prompt.
        assert (sample.labels[len(prompt) :] != -100).all()
        assert sample.labels[len(prompt) - 1] == -100
        # The same prompt again in the longer conversations, where more turns follow.
        (whole,) = encode([talk(*turns)], tiny, template, max_length=4000).samples
        assert whole.input_ids[: len(sample.input_ids)].tolist() == sample.input_ids.tolist()
        assert whole.labels[: len(sample.labels)].tolist() == sample.labels.tolist()
