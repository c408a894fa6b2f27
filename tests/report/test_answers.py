"""Differences are those of the words, and the answer is still there to the character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightning_neft.report.sections.answers import differences

TEXTS = st.lists(st.sampled_from(["a", "b", "c", " ", "\n", "\t", "é", "  "]), max_size=40).map("".join)


@given(TEXTS, TEXTS)
def test_what_is_not_left_out_is_the_answer(baseline: str, answer: str) -> None:
    segments = differences(baseline, answer).segments
    assert "".join(segment.text for segment in segments if segment.kind != "removed") == answer


@given(TEXTS)
def test_an_answer_does_not_differ_from_itself(text: str) -> None:
    found = differences(text, text)
    assert found.is_same
    assert all(segment.kind == "same" for segment in found.segments)


def test_words_are_marked_without_the_space_before_them() -> None:
    found = differences("the cat sat on the mat", "the old cat sat on a mat")
    assert [segment.text for segment in found.segments if segment.kind == "added"] == ["old", "a"]
    assert [segment.text for segment in found.segments if segment.kind == "removed"] == [" the"]


def test_answers_with_little_in_common_are_not_marked() -> None:
    found = differences("one two three four", "something else altogether four")
    assert {segment.kind for segment in found.segments} == {"same"}
    assert found.common == 0.25
    assert not found.is_same


def test_very_long_answers_are_told_apart_but_not_compared() -> None:
    long = "word " * 5000
    assert differences(long, long).is_same
    other = differences(long, long + "more")
    assert other.common is None
    assert not other.is_same
