"""The summary is never more certain than the intervals."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.evaluation.result import Fields
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import Chart, Finding, Findings, Note
from lightning_neft.report.figure import LIGHT
from lightning_neft.report.inputs import Inputs, Result, read_inputs
from lightning_neft.report.sections.scores import finding
from lightning_neft.report.sections.study import summary
from lightning_neft.report.values import Dots
from report.example import study, win_rate, write


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
        # Of one training each: no verdict on noise.
        ("win_rate", -1, "different"),
        ("win_rate", 1, "different"),
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
    result = study()
    result["comparisons"] += [one | {"metric": "mean_characters"} for one in result["comparisons"]]
    assert [note.text for note in blocks_of(Note, result)] == [
        "The verdicts on held-out loss are corrected for 2 alphas (Holm's method); the intervals of the plots are "
        "those of single comparisons.",
        "2 comparisons are not corrected for their number: about one in 20 shows a difference by chance alone.",
    ]
    # One alpha needs no correction, and without a verdict there is none to correct.
    for other in (study(alphas=(0, 5)), study(seeds=(0,))):
        assert not any("correct" in note.text for note in blocks_of(Note, other))


def test_a_verdict_does_not_contradict_the_corrected_answer() -> None:
    """An interval that excludes 0 by little is no evidence among ten alphas, and so neither better nor green."""
    little, nothing = (-0.05, -0.095, -0.005), (0.0, -0.045, 0.045)
    assert findings(study(alphas=(0, 1), intervals=(little,)))[0].verdict == "better"
    found = findings(study(alphas=range(11), intervals=(little, *[nothing] * 9)))
    assert {item.verdict for item in found} == {"no evidence"}
    assert found[0].sentence == (
        "no evidence of a difference after correction for 10 alphas; without it lower by 0.05 (95 % interval 0.005 to "
        "0.095)"
    )


def plots_of(result: dict) -> list[Dots]:
    return [block.plot for block in blocks_of(Chart, result)]


def test_only_the_axis_of_enough_seeds_has_a_better_side() -> None:
    (plot,) = plots_of(study())
    assert plot.sides == ("better", "worse")
    (plot,) = plots_of(study(seeds=(0, 1)))
    assert plot.sides == ("lower", "higher")
    result = study()
    result["comparisons"] = [one | {"metric": "mean_characters"} for one in result["comparisons"]]
    (plot,) = plots_of(result)
    assert plot.sides is None


def test_the_axis_of_a_difference_covers_a_share_of_the_loss() -> None:
    result = study(alphas=(0, 5), intervals=((-0.0001, -0.0002, 0.0001),))
    (plot,) = plots_of(result)
    loss = sum(arm["held_out_loss"] for arm in result["arms"] if not arm["alpha"]) / 3
    assert plot.least == pytest.approx(0.02 * loss)
    (axes,) = plot.draw(LIGHT).axes
    assert axes.get_xlim() == pytest.approx((-0.02 * loss, 0.02 * loss))


def test_the_note_below_a_difference_says_what_its_marks_are() -> None:
    (chart,) = blocks_of(Chart, study())
    assert chart.note == "Diamond: mean. Bar with caps: 95 % bootstrap interval over 3 seeds and 60 samples."


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

    # The equal-length rate of the example is 3 above the raw one.
    assert tells(26.46, 1.54) == ["different", "different"]
    assert tells(48.0, 1.54) == ["no evidence", "no evidence"]
    assert tells(52.0, 1.54) == ["no evidence", "different"]
    assert [(item.subject, item.sentence) for item in findings(win_rate("a", rate=20.0, error=1.0))] == [
        (f"a against text_davinci_003, {name} win rate {rate} %, compared with 50 %", sentence)
        for name, rate, sentence in (
            ("raw", "20.00", "lower by 30 (95 % interval 28 to 32)"),
            ("equal-length", "23.00", "lower by 27 (95 % interval 25 to 29)"),
        )
    ]


@pytest.mark.parametrize("error", [None, 0.0])
def test_a_win_rate_without_standard_error_gives_no_verdict(error: float | None) -> None:
    """It is 0 where all pairs have the same verdict, of however few: that is no certainty."""
    assert summary(inputs_of(win_rate(error=error))) is None


def test_few_pairs_make_a_win_rate_less_certain() -> None:
    few = win_rate(rate=45.0, error=2.0)
    assert [item.verdict for item in findings(few)] == ["different", "no evidence"]
    # Student's quantile with 3 degrees of freedom is 3.18: 45 +- 6.4.
    assert [item.verdict for item in findings(few | {"n_total": 4})] == ["no evidence", "no evidence"]


SAME = {"model": "m", "data": "d", "data_digest": "0f", "steps": 12}


def test_equal_alphas_of_two_studies_are_paired() -> None:
    one = study(label="plain", alphas=(0, 5), intervals=((-0.2, -0.21, -0.19),), settings=SAME)
    other = study(label="other", alphas=(0, 5, 9), intervals=((-0.5, -0.53, -0.47), (0.1, 0.0, 0.2)), settings=SAME)
    (block,) = (block for block in blocks_of(Findings, one, other) if "against plain" in block.headline)
    assert block.headline == "Held-out loss: other against plain"
    (found,) = block.findings
    assert (found.subject, found.verdict) == ("alpha 5, 3 seeds", "better")
    assert found.sentence.startswith("lower by 0.3 (")


@pytest.mark.parametrize("changed", [{"data_digest": "1e"}, {"model": "n"}, {"steps": 13}, {"data_digest": ""}])
def test_other_data_models_and_steps_are_not_paired(changed: dict) -> None:
    results = (study(label="plain", settings=SAME), study(label="other", settings=SAME | changed))
    assert not [block for block in blocks_of(Findings, *results) if "against plain" in block.headline]


def test_studies_of_one_label_are_told_apart_by_their_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "study.json", study(label="run", settings=SAME))
    inputs = read_inputs([tmp_path / name / "study.json" for name in ("a", "b")])
    assert [one.label for one in inputs.studies] == ["run (a/study.json)", "run (b/study.json)"]
