"""Repetition and diversity: worked out by hand, and the paper's variant against what its code does."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_neft.evaluation.text_statistics import diversity, paper_diversity


def test_a_text_worked_out_by_hand() -> None:
    # 2-grams: to-be be-or or-not not-to to-be, 4 of 5 distinct. 3-grams and 4-grams: all 4 and 3 distinct.
    found = diversity(["to", "be", "or", "not", "to", "be"])
    assert found is not None
    assert found.repetition == pytest.approx((0.2, 0.0, 0.0))
    assert found.diversity == pytest.approx(0.8)
    assert found.log_diversity == pytest.approx(-math.log(0.2))


def test_the_paper_drops_the_last_ngram_and_divides_by_100() -> None:
    # Without its last 2-gram, to-be, nothing repeats.
    found = paper_diversity(["to", "be", "or", "not", "to", "be"])
    assert found is not None
    assert found.repetition == (0.0, 0.0, 0.0)
    assert found.log_diversity == 20.0
    # One word more: 1 of 6 - 1 = 5 2-grams repeats, 0.2; 1 - (1 - 0.002) = 0.002.
    found = paper_diversity(["to", "be", "or", "not", "to", "be", "!"])
    assert found is not None
    assert found.repetition == pytest.approx((0.2, 0.0, 0.0))
    assert found.log_diversity == pytest.approx(-math.log(0.002))


def test_a_text_that_only_repeats_has_hardly_any_diversity() -> None:
    found = diversity(["a"] * 101)
    assert found is not None
    assert found.repetition == pytest.approx((1 - 1 / 100, 1 - 1 / 99, 1 - 1 / 98))
    assert found.log_diversity == pytest.approx(1 / (100 * 99 * 98), rel=1e-3)


@pytest.mark.parametrize(("text", "is_known", "is_known_in_paper"), [("", 0, 0), ("a b c", 0, 0), ("a b c d", 1, 0)])
def test_texts_without_a_4_gram_have_none(text: str, is_known: int, is_known_in_paper: int) -> None:
    assert (diversity(text.split()) is not None) == is_known
    assert (paper_diversity(text.split()) is not None) == is_known_in_paper
    assert paper_diversity(["a", "b", "c", "d", "e"]) is not None


def _as_the_authors_count(text: str) -> tuple[list[float], float] | None:
    """Restated from the description: windows that end before the last word, joined by blanks."""
    tokens = text.strip("\n").strip().split()
    shares = []
    for n in (2, 3, 4):
        windows = []
        end = n
        while end < len(tokens):
            windows.append(" ".join(tokens[end - n : end]))
            end += 1
        if not windows:
            return None
        shares.append(1.0 - len(dict.fromkeys(windows)) / len(windows))
    product = 1.0
    for share in shares:
        product *= 1.0 - share / 100
    return shares, min(20.0, -math.log(1 - product)) if product < 1 else 20.0


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=40).map(" ".join))
def test_the_papers_variant_agrees_with_its_restatement(text: str) -> None:
    found, expected = paper_diversity(text.split()), _as_the_authors_count(text)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.repetition == pytest.approx(expected[0])
        assert found.log_diversity == pytest.approx(expected[1])
