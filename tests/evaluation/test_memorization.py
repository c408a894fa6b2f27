"""ROUGE-L and BLEU-4 against values worked out by hand."""

from __future__ import annotations

import sys

import pytest

from lightning_neft.errors import ConfigError
from lightning_neft.evaluation.memorization import bleu_4, memorization, rouge_l


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        # Common subsequence: the cat the mat; 4 of 5 words and 4 of 6: 2 * 4 / (5 + 6).
        ("the cat hit the mat", "The cat sat on the mat.", 8 / 11),
        ("b a", "a b", 0.5),
        ("Same, words!", "same words", 1.0),
        ("", "a", 0.0),
        ("一 二 三", "一 二 四", 2 / 3),
        ("größe", "GRÖßE", 1.0),
    ],
)
def test_rouge_l_by_hand(answer: str, reference: str, value: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        # Orders 1 to 4 match 6/7, 5/6, 4/5 and 3/4, which multiply to 3/7.
        ("the cat sat on the mat now", "the cat sat on the mat today", (3 / 7) ** 0.25),
        # All match, and the brevity penalty is exp(1 - 6/4).
        ("the cat sat on", "the cat sat on the mat", 0.60653),
        ("the cat", "the cat", 1.0),
        ("", "the cat", 0.0),
    ],
)
def test_bleu_by_hand(answer: str, reference: str, value: float) -> None:
    assert bleu_4(answer, reference) == pytest.approx(value, rel=1e-4)


def test_an_answer_without_a_common_4_gram_is_not_worth_nothing() -> None:
    assert 0.1 < bleu_4("the cat sat here now", "the cat sat on the mat") < 0.6


def test_near_copies_are_those_above_the_threshold() -> None:
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    # 9 of 10 words in both: exactly 0.9, which is not above it.
    found = memorization([" ".join(words), " ".join([*words[:9], "x"])], [" ".join(words)] * 2)
    assert found["per_sample"]["rouge_l"] == pytest.approx([1.0, 0.9])
    assert (found["n_total"], found["near_copy_share"], found["near_copy_threshold"]) == (2, 0.5, 0.9)
    assert found["mean_rouge_l"] == pytest.approx(0.95)
    assert len(found["histogram"]["edges"]) == 21
    assert sum(found["histogram"]["rouge_l"]) == sum(found["histogram"]["bleu_4"]) == 2
    assert found["histogram"]["rouge_l"][-1] >= 1


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(
        ConfigError, match=r"needs sacrebleu, not installed here: pip install 'lightning-neft\[evaluate\]'"
    ):
        memorization(["a"], ["a"])
