"""Token ids and labels, written out by hand."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from lightning_neft.data.collate import RightPadding
from lightning_neft.data.encoding import EncodedSample, encode_prompts, encode_samples
from lightning_neft.data.sample import Sample
from lightning_neft.data.template import AlpacaTemplate
from lightning_neft.data.tokenizer import leading_ids, load_tokenizer, pad_id
from lightning_neft.errors import ModelError


class Short(AlpacaTemplate):
    """The instruction and a colon, to keep the ids few."""

    def prompt(self, sample: Sample) -> str:
        return f"{sample.instruction}:"


def test_prompt_is_masked_and_answer_and_end_are_trained(words: PreTrainedTokenizerFast) -> None:
    encoding = encode_samples([Sample("Say", "", "hello now")], words, Short(), max_length=10)
    #                                                   <s> Say  :  hello now </s>
    assert encoding.samples == [EncodedSample(input_ids=[0, 3, 4, 5, 7, 1], labels=[-100, -100, -100, 5, 7, 1])]
    assert (encoding.kept, encoding.truncated, encoding.dropped) == ([0], 0, 0)


def test_an_empty_answer_is_its_end_token(words: PreTrainedTokenizerFast) -> None:
    encoding = encode_samples([Sample("Say", "", "")], words, Short(), max_length=10)
    assert encoding.samples == [EncodedSample([0, 3, 4, 1], [-100, -100, -100, 1])]


def test_long_samples_are_cut_and_those_without_an_answer_left_dropped(words: PreTrainedTokenizerFast) -> None:
    samples = [
        Sample("Say", "", "hello now"),  # six tokens: the end is lost
        Sample("Say", "", "bye"),  # exactly five
        Sample("Say Say Say Say", "", "bye"),  # the prompt alone has six
        Sample("Say Say Say", "", "bye"),  # the prompt alone has five
        Sample("Say Say", "", "bye"),  # one token of the answer is left
    ]
    encoding = encode_samples(samples, words, Short(), max_length=5)
    assert encoding.samples == [
        EncodedSample([0, 3, 4, 5, 7], [-100, -100, -100, 5, 7]),
        EncodedSample([0, 3, 4, 6, 1], [-100, -100, -100, 6, 1]),
        EncodedSample([0, 3, 3, 4, 6], [-100, -100, -100, -100, 6]),
    ]
    assert (encoding.kept, encoding.truncated, encoding.dropped) == ([0, 1, 4], 2, 2)


def test_the_prompt_stays_as_generation_feeds_it_where_a_text_would_merge_over_its_end(
    words: PreTrainedTokenizerFast,
) -> None:
    # ":!" is one token of the text ":!", so the prompt's ":" would be lost.
    assert words("Say:!", add_special_tokens=False)["input_ids"] == [3, 8]
    encoding = encode_samples([Sample("Say", "", "! hello")], words, Short(), max_length=10)
    assert encoding.samples == [EncodedSample([0, 3, 4, 2, 5, 1], [-100, -100, -100, 2, 5, 1])]
    assert encode_prompts(words, ["Say:"]) == [[0, 3, 4]]


def test_what_a_tokenizer_puts_in_front_is_kept_and_what_it_puts_behind_is_not(words: PreTrainedTokenizerFast) -> None:
    from tokenizers import processors

    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert words("Say")["input_ids"] == [0, 3, 1]
    assert leading_ids(words) == [0]
    assert encode_prompts(words, ["Say"]) == [[0, 3]]
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    assert leading_ids(words) == []
    assert encode_prompts(words, ["Say"]) == [[3]]


def test_a_batch_is_padded_on_the_right_to_its_longest(words: PreTrainedTokenizerFast) -> None:
    # Without a padding token the end token fills up: the real end of the first sample stays visible and trained.
    batch = RightPadding(pad_id(words))(
        [EncodedSample([0, 4, 1], [-100, -100, 1]), EncodedSample([0, 4, 5, 6, 1], [-100, -100, 5, 6, 1])]
    )
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[0, 4, 1, 1, 1], [0, 4, 5, 6, 1]],
        "attention_mask": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
        "labels": [[-100, -100, 1, -100, -100], [-100, -100, 5, 6, 1]],
    }
    assert {str(tensor.dtype) for tensor in batch.values()} == {"torch.int64"}


def test_a_padding_token_is_used_where_there_is_one(words: PreTrainedTokenizerFast) -> None:
    assert pad_id(words) == 1
    words.pad_token = "<s>"
    assert pad_id(words) == 0


def test_a_tokenizer_without_an_end_token_is_refused(words: PreTrainedTokenizerFast, tmp_path) -> None:
    words.eos_token = None
    words.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no end-of-sequence token"):
        load_tokenizer(str(tmp_path))
