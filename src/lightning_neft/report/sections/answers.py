"""Answers side by side: of answer files, and of a study's arms seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_neft.evaluation.records import Output
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import Answer, AnsweredPrompt, Answers, PageSection
from lightning_neft.report.difference import differences
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import alpha_name

__all__ = ["answers"]

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
