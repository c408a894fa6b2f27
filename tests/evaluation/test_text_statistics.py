"""Text statistics over several texts, in batches, with the first words alone."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_neft.errors import ConfigError
from lightning_neft.evaluation.text_statistics import TextStatistics, statistics_of

# 4 of 5 2-grams distinct; no 4-gram; nothing; nothing repeated.
TEXTS = ["to be or not to be", "größer  als\n", "", "one two three four five"]


def test_numbers_worked_out_by_hand() -> None:
    found = statistics_of(TEXTS, tokens=[6, 4, 0, 5])
    assert (found["n_total"], found["n_empty"], found["n_short"], found["first_k_tokens"]) == (4, 1, 0, None)
    assert found["mean_characters"] == pytest.approx((18 + 12 + 0 + 23) / 4)
    assert found["mean_words"] == pytest.approx((6 + 2 + 0 + 5) / 4)
    assert found["mean_tokens"] == pytest.approx(15 / 4)
    assert found["repetition_2"] == pytest.approx((0.2 + 0) / 2)
    assert found["repetition_3"] == found["repetition_4"] == 0
    assert found["diversity"] == pytest.approx(0.9)
    assert found["log_diversity"] == pytest.approx((-math.log(0.2) + 20) / 2)
    assert (found["repetition_2_paper"], found["log_diversity_paper"]) == (0, 20)
    assert (found["n_without_diversity"], found["n_without_diversity_paper"]) == (2, 2)
    # 4 + 2 + 5 different words of 13; 4 + 1 + 4 different 2-grams of 5 + 1 + 4.
    assert found["distinct_1"] == pytest.approx(11 / 13)
    assert found["distinct_2"] == pytest.approx(9 / 10)
    assert found["distinct_4"] == 1
    assert found["per_sample"]["words"] == [6, 2, 0, 5]
    assert found["per_sample"]["tokens"] == [6, 4, 0, 5]
    assert found["per_sample"]["repetition_2"] == [pytest.approx(0.2), None, None, 0]


def test_an_ngram_in_two_texts_counts_as_one_distinct_ngram() -> None:
    assert statistics_of(["a b", "a b"])["distinct_2"] == 0.5
    # A word with a blank inside there is not, so that these are two.
    assert statistics_of(["ab c", "a bc"])["distinct_2"] == 1


def test_diversity_uses_the_first_words_and_length_all_words() -> None:
    # The first five words repeat nothing, the rest does; the second text is too short.
    found = statistics_of(["a b c d e a b c d e", "a b c d"], first_k_tokens=5)
    assert (found["n_total"], found["n_short"], found["n_without_diversity"]) == (2, 1, 1)
    assert found["mean_words"] == 7
    assert found["repetition_2"] == 0
    assert found["distinct_1"] == 1
    assert found["per_sample"]["log_diversity"] == [20, None]
    assert statistics_of(["a b c d e a b c d e"])["repetition_2"] > 0


def test_a_text_of_exactly_k_words_is_kept() -> None:
    found = statistics_of(["a b c d e"], first_k_tokens=5)
    assert (found["n_short"], found["n_without_diversity"], found["distinct_1"]) == (0, 0, 1)


def test_there_are_no_numbers_where_nothing_can_be_counted() -> None:
    found = statistics_of(["", "  \n"])
    assert (found["n_empty"], found["mean_words"], found["mean_characters"]) == (2, 0, 1.5)
    assert found["mean_tokens"] is found["repetition_2"] is found["log_diversity_paper"] is found["distinct_1"] is None
    assert "tokens" not in found["per_sample"]


def test_updates_in_parts_give_the_same() -> None:
    whole, parts = TextStatistics(), TextStatistics()
    whole.update(TEXTS)
    for text in TEXTS:
        parts.update([text])
    expected = whole.compute()
    for name, value in parts.compute().items():
        torch.testing.assert_close(value, expected[name], equal_nan=True)
    parts.reset()
    parts.update(TEXTS[:1])
    assert parts.compute()["n_total"] == 1


def test_states_that_were_gathered_from_ranks_are_tensors() -> None:
    metric = TextStatistics()
    metric.update(TEXTS)
    for name in ("rows", *(f"ngrams_{n}" for n in (1, 2, 3, 4))):
        setattr(metric, name, torch.cat(getattr(metric, name)))
    found = metric.compute()
    assert (found["n_total"], found["distinct_2"]) == (4, pytest.approx(0.9))


def test_too_few_first_words_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"first_k_tokens must be 5 or more, .* got 4"):
        TextStatistics(first_k_tokens=4)
