"""The summary is never more certain than the intervals."""

from __future__ import annotations

import pytest

from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.evaluation.result import Fields
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import Finding, Findings, Note
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.sections.scores import finding
from lightning_neft.report.sections.study import summary
from report.example import study, win_rate


def inputs_of(*results: dict) -> Inputs:
    read = [
        Result("a.json", "0", one["kind"], one["label"], Fields(one, "a.json"), Fields(one["provenance"], "a.json"))
        for one in results
    ]
    return Inputs(read, [], [StudyResult.read(one.fields) for one in read if one.kind == "study"])


def blocks_of(kind: type, *results: dict) -> list:
    section = summary(inputs_of(*results))
    assert section is not None
    return [block for block in section.blocks if isinstance(block, kind)]


def findings(*results: dict) -> list[Finding]:
    return [item for block in blocks_of(Findings, *results) for item in block.findings]


@pytest.mark.parametrize("ends", [(-0.1, 0.1), (-0.3, 0.0), (0.0, 0.3), (0.0, 0.0), (-1e-9, 5.0), (2.0, 2.0)])
def test_an_interval_that_holds_or_touches_zero_is_no_evidence(ends: tuple[float, float]) -> None:
    found = finding("alpha 5", "held_out_loss", Interval(sum(ends) / 2, *ends, 0.95))
    assert found.verdict == "no evidence"
    assert found.sentence.startswith("no evidence of a difference")


@pytest.mark.parametrize(
    ("metric", "sign", "tells"),
    [
        ("held_out_loss", -1, "better"),
        ("held_out_loss", 1, "worse"),
        ("win_rate", -1, "worse"),
        ("win_rate", 1, "better"),
        ("train_clean_loss", -1, "different"),
        ("mean_characters", 1, "different"),
        ("a_metric_of_the_future", 1, "different"),
    ],
)
def test_the_word_is_that_of_the_metric(metric: str, sign: int, tells: str) -> None:
    low, high = sorted((sign * 1.0, sign * 3.0))
    found = finding("alpha 5", metric, Interval(sign * 2.0, low, high, 0.95))
    assert found.verdict == tells
    assert found.sentence == f"{'lower' if sign < 0 else 'higher'} by 2 (95 % interval 1 to 3)"


def test_the_headline_lists_each_alpha_under_its_verdict() -> None:
    result = study(alphas=(0, 1, 5, 15), intervals=((-0.2, -0.3, -0.1), (0.1, -0.1, 0.3), (0.2, 0.1, 0.3)))
    (block,) = blocks_of(Findings, result)
    assert block.headline == (
        "Held-out loss: better with alpha 1; worse with alpha 15; no evidence of a difference with alpha 5"
    )


def test_without_any_evidence_the_headline_says_so() -> None:
    (block,) = blocks_of(Findings, study(intervals=((-0.2, -0.5, 0.1), (0.1, -0.1, 0.3))))
    assert block.headline == "Held-out loss: no evidence of a difference at any alpha"


def test_the_verdict_of_the_file_is_not_believed() -> None:
    result = study(intervals=((-0.2, -0.5, 0.1),), alphas=(0, 5))
    result["comparisons"][0]["verdict"] = "better: proven"
    assert "proven" not in str(blocks_of(Findings, result))


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_fewer_than_three_seeds_give_no_verdict(seeds: tuple[int, ...]) -> None:
    result = study(seeds=seeds, intervals=((-0.2, -0.3, -0.1), (0.2, 0.1, 0.3)))
    (block,) = blocks_of(Findings, result)
    assert block.headline == "Held-out loss: no verdict from fewer than 3 seeds with alpha 5, alpha 15"
    assert [item.verdict for item in block.findings] == ["no verdict", "no verdict"]
    few = "1 seed" if len(seeds) == 1 else "2 seeds"
    assert block.findings[0].sentence == f"no verdict from {few}, use 3 or more (-0.2, 95 % interval -0.3 to -0.1)"
    assert any("Fewer than 3 seeds" in note.text and note.is_warning for note in blocks_of(Note, result))
    assert not any("Fewer than 3 seeds" in note.text for note in blocks_of(Note, study(seeds=(0, 1, 2))))


def test_each_finding_says_how_many_seeds_it_is_of() -> None:
    result = study(seeds=(0, 1, 2))
    result["comparisons"][0]["n_seeds"] = 1
    assert [(item.subject, item.verdict) for item in findings(result)] == [
        ("alpha 5 against alpha 0, 1 seed", "no verdict"),
        ("alpha 15 against alpha 0, 3 seeds", "no evidence"),
    ]


def test_several_comparisons_are_a_caution() -> None:
    assert any("2 comparisons" in note.text and "one in 20" in note.text for note in blocks_of(Note, study()))
    assert not any("comparisons" in note.text for note in blocks_of(Note, study(alphas=(0, 5))))


def test_arms_and_alphas_that_are_missing_are_named() -> None:
    result = study(failed=[(15, 1)], intervals=((-0.08, -0.13, -0.03),))
    texts = [note.text for note in blocks_of(Note, result) if note.is_warning]
    assert texts == [
        "Not compared: alpha 15.",
        "1 of 9 arms did not finish: alpha 15, seed 1 (failed).",
    ]


def test_a_study_without_comparisons_says_so() -> None:
    result = study(alphas=(0,), intervals=())
    assert any("Nothing was compared" in note.text for note in blocks_of(Note, result))


def test_a_win_rate_is_judged_by_its_interval_around_even() -> None:
    def tells(rate: float, error: float) -> list[str]:
        return [item.verdict for item in findings(win_rate(rate=rate, error=error))]

    # The length-controlled rate of the example is 3 above the raw one.
    assert tells(26.46, 1.54) == ["worse", "worse"]
    assert tells(48.0, 1.54) == ["no evidence", "no evidence"]
    assert tells(52.0, 1.54) == ["no evidence", "better"]


@pytest.mark.parametrize("error", [None, 0.0])
def test_a_win_rate_without_standard_error_gives_no_verdict(error: float | None) -> None:
    """It is 0 where all pairs have the same verdict, of however few: that is no certainty."""
    assert summary(inputs_of(win_rate(error=error))) is None


def test_few_pairs_make_a_win_rate_less_certain() -> None:
    few = win_rate(rate=45.0, error=2.0)
    assert [item.verdict for item in findings(few)] == ["worse", "no evidence"]
    # Student's quantile with 3 degrees of freedom is 3.18: 45 +- 6.4.
    assert [item.verdict for item in findings(few | {"n_total": 4})] == ["no evidence", "no evidence"]
