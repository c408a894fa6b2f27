"""Differences between arms, and the verdict from an interval and its number of seeds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from lightning_neft.evaluation.bootstrap import Interval, verdict
from lightning_neft.report.content import Finding

__all__ = ["Difference", "Segment", "differences", "finding", "metric_name"]


# Display name, and whether lower is better; None if neither is.
_METRICS: dict[str, tuple[str, bool | None]] = {
    "held_out_loss": ("held-out loss", True),
    "train_clean_loss": ("training loss without noise", None),
    "mean_rouge_l": ("ROUGE-L of answers to training prompts", None),
    "near_copy_share": ("share of near-copies", None),
    "mean_characters": ("characters per answer", None),
    "mean_words": ("words per answer", None),
    "repetition_2": ("share of repeated 2-grams", None),
    "win_rate": ("win rate", False),
}


def metric_name(metric: str) -> str:
    """Return the display name of a metric.

    Example:
        >>> metric_name("held_out_loss"), metric_name("some_other")
        ('held-out loss', 'some other')
    """
    return _METRICS.get(metric, (metric.replace("_", " "), None))[0]


def finding(subject: str, metric: str, interval: Interval) -> Finding:
    """Return the verdict on a metric from the interval of its difference.

    If neither direction is better, the sentence says higher or lower, not better or worse.

    Example:
        >>> found = finding("alpha 5", "mean_words", Interval(2.0, 1.0, 3.0, 0.95))
        >>> found.verdict, found.sentence
        ('different', 'higher by 2 (95 % interval 1 to 3)')
    """
    lower_is_better = _METRICS.get(metric, ("", None))[1]
    sentence = verdict(interval, lower_is_better=bool(lower_is_better))
    if interval.has_few_seeds:
        return Finding(subject, "no verdict", sentence)
    if not interval.is_evidence:
        return Finding(subject, "no evidence", sentence)
    direction, _, rest = sentence.partition(": ")
    if lower_is_better is None:
        return Finding(subject, "different", rest)
    return Finding(subject, "better" if direction == "better" else "worse", rest)


# A word with the space before it, or the space at the end.
_WORD = re.compile(r"\s*\S+|\s+$")
# Answers with a smaller share of common words are not marked: everything would be.
_RELATED = 0.3
# Comparing takes time up to the product of the two lengths.
_LONGEST = 2000


@dataclass(frozen=True)
class Segment:
    """A run of words.

    Attributes:
        kind: `same` in both, `added` in this answer, or `removed` from it.
        text: The words, with the spaces between them.
    """

    kind: Literal["same", "added", "removed"]
    text: str


@dataclass(frozen=True)
class Difference:
    """An answer compared with another one.

    Attributes:
        segments: Its parts; without the removed ones they are exactly the answer.
        common: Share of words in common, 0 to 1; None if the answers are too long to compare.
    """

    segments: tuple[Segment, ...]
    common: float | None

    @property
    def is_same(self) -> bool:
        """Whether the two have the same words."""
        return self.common == 1.0

    @property
    def is_marked(self) -> bool:
        """Whether the words that differ are marked."""
        return any(segment.kind != "same" for segment in self.segments)


def differences(baseline: str, answer: str) -> Difference:
    """Compare two answers by words.

    Example:
        >>> found = differences("a red fox", "a quick fox")
        >>> [(segment.kind, segment.text) for segment in found.segments]
        [('same', 'a'), ('removed', ' red'), ('same', ' '), ('added', 'quick'), ('same', ' fox')]
    """
    before, after = _WORD.findall(baseline), _WORD.findall(answer)
    plain = (Segment("same", answer),) if answer else ()
    if len(before) > _LONGEST or len(after) > _LONGEST:
        return Difference(plain, 1.0 if before == after else None)
    matcher = SequenceMatcher(None, [word.strip() for word in before], [word.strip() for word in after], autojunk=False)
    common = matcher.ratio()
    if common < _RELATED:
        return Difference(plain, common)
    segments = []
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag != "equal" and end > start:
            segments.append(Segment("removed", "".join(before[start:end])))
        if new_end > new_start:
            words = "".join(after[new_start:new_end])
            # The space before them does not count as a difference.
            space = "" if tag == "equal" else words[: len(words) - len(words.lstrip())]
            segments.extend([Segment("same", space)] if space else [])
            segments.append(Segment("same" if tag == "equal" else "added", words[len(space) :]))
    return Difference(tuple(segments), common)
