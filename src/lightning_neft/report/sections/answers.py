"""Answers side by side, of answer files and of a study seed by seed, with the words in which they differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from lightning_neft.evaluation.records import Output
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import Answer, AnsweredPrompt, Answers, PageSection, alpha_name
from lightning_neft.report.inputs import Inputs

__all__ = ["Difference", "Segment", "answers", "differences"]

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


_LEAD = (
    "Each answer is compared with the first one to the same instruction. Added words are underlined, missing words are "
    "struck out; answers with little in common are not marked."
)


@dataclass(frozen=True)
class _Answerer:
    """Who answered, the group for comparisons, and the answers."""

    name: str
    group: str
    records: Sequence[Output]


def answers(inputs: Inputs) -> PageSection | None:
    """Return the section; None without answers."""
    section = PageSection("answers", "Answers side by side", _LEAD)
    if inputs.answer_files:
        arms = [_Answerer(file.label, "", file.records) for file in inputs.answer_files]
        section.blocks.append(_side_by_side("Answer files", arms, arms[0].name))
    for study in inputs.studies:
        if study_arms := _arms(study):
            title = f"Arms of {study.label}"
            section.blocks.append(_side_by_side(title, study_arms, alpha_name(study.alphas[0])))
    return section if section.blocks else None


def _arms(study: StudyResult) -> list[_Answerer]:
    found = [arm for arm in study.arms if arm.answers]
    seeds = {arm.seed for arm in found}
    return [
        _Answerer(alpha_name(arm.alpha), f"seed {arm.seed}" if len(seeds) > 1 else "", arm.answers) for arm in found
    ]


def _side_by_side(title: str, arms: Sequence[_Answerer], baseline: str) -> Answers:
    keyed = [(arm, dict(_keyed(arm.records))) for arm in arms]
    groups = list(dict.fromkeys(arm.group for arm in arms))
    exchanges = []
    for key in dict.fromkeys(key for _, records in keyed for key in records):
        given = [
            answer
            for group in groups
            for answer in _answers([(arm, records.get(key)) for arm, records in keyed if arm.group == group])
        ]
        first = next(records[key] for _, records in keyed if key in records)
        exchanges.append(AnsweredPrompt(key[0], given, key[1], first.reference or ""))
    return Answers(title, baseline, [group for group in groups if group], exchanges)


def _keyed(records: Iterable[Output]) -> Iterable[tuple[tuple[str, str, int], Output]]:
    """Records by instruction, input, and how often the two occurred before."""
    met: dict[tuple[str, str], int] = {}
    for record in records:
        met[record.key] = met.get(record.key, -1) + 1
        yield (*record.key, met[record.key]), record


def _answers(group: Sequence[tuple[_Answerer, Output | None]]) -> list[Answer]:
    """Answers of one group to one instruction, each compared with the first arm's."""
    texts = [None if record is None else record.output for _, record in group]
    first = texts[0]
    return [
        Answer(
            arm.name,
            arm.group,
            text,
            None if index == 0 or text is None or first is None else differences(first, text),
        )
        for index, ((arm, _), text) in enumerate(zip(group, texts, strict=True))
    ]
