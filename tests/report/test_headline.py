"""The sentence at the top of a page: the answer of a study, never more certain than its corrected intervals."""

from __future__ import annotations

import pytest

from lightning_neft.errors import DataError
from lightning_neft.evaluation.choice import choose_alpha
from lightning_neft.report.headline import headlines
from report.example import study
from report.test_verdicts import inputs_of

FACTS = {"model": "HuggingFaceTB/SmolLM2-135M", "data": "dolly_3k", "steps": 300}
LOWER, HIGHER, NOTHING = (-0.1, -0.18, -0.02), (0.3, 0.2, 0.4), (0.01, -0.02, 0.04)
MEASURED = "3 seeds, SmolLM2-135M on dolly_3k, 300 steps, 60 held-out samples"


def headline(*intervals: tuple[float, float, float], seeds: tuple[int, ...] = (0, 1, 2), **settings: object) -> str:
    alphas = (0, 5, 15, 45)[: len(intervals) + 1]
    (found,) = headlines(inputs_of(study(alphas, seeds, intervals, settings=FACTS | settings)))
    return found


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([LOWER], f"Alpha 5 lowers held-out loss by 3.3 % (95 %: 0.6 to 5.9); {MEASURED}."),
        ([HIGHER], f"Alpha 5 raises held-out loss by 9.9 % (95 %: 6.6 to 13.3); {MEASURED}."),
        (
            [NOTHING],
            f"Alpha 5 does not change held-out loss measurably: -0.65 % to 1.35 % (95 % interval); {MEASURED}.",
        ),
        (
            [LOWER, HIGHER],
            "Alpha 5 lowers held-out loss by 3.3 % (95 %: 0.2 to 6.3); alpha 15 raises it by 9.9 % (95 %: 6.1 to 13.8)"
            f"; {MEASURED}, intervals corrected for 2 alphas.",
        ),
        (
            [NOTHING, HIGHER],
            f"No alpha lowers held-out loss measurably; alpha 15 raises it by 9.9 % (95 %: 6.1 to 13.8); {MEASURED}, "
            "intervals corrected for 2 alphas.",
        ),
        (
            [NOTHING, NOTHING],
            "No alpha (5, 15) changes held-out loss measurably: -0.80 % to 1.49 % (95 % interval); "
            f"{MEASURED}, intervals corrected for 2 alphas.",
        ),
    ],
)
def test_the_answer_and_what_it_was_measured_on(intervals: list[tuple[float, float, float]], expected: str) -> None:
    assert headline(*intervals) == expected


def test_the_lowest_of_several_is_named_as_the_recipe_has_it() -> None:
    intervals = (LOWER, (-0.2, -0.28, -0.12), (0.3, 0.2, 0.4))
    inputs = inputs_of(study((0, 5, 15, 45), intervals=intervals))
    assert headlines(inputs)[0].startswith(f"Alpha {choose_alpha(inputs.studies[0]).alpha:g} lowers")
    assert headline(*intervals).startswith("Alpha 15 lowers held-out loss by 6.6 %")


def test_each_of_several_studies_has_its_name() -> None:
    found = headlines(inputs_of(study((0, 5), label="one"), study((0, 5), (0,), label="two")))
    assert [text.partition(" ")[0] for text in found] == ["one:", "two:"]
    assert found[1].startswith("two: Not shown: 1 seed")


@pytest.mark.parametrize(("seeds", "count"), [((0,), "1 seed"), ((0, 1), "2 seeds")])
def test_few_seeds_show_nothing(seeds: tuple[int, ...], count: str) -> None:
    measured = MEASURED.removeprefix("3 seeds")
    assert headline(LOWER, seeds=seeds) == f"Not shown: {count} (a verdict needs 3){measured}."


def test_an_alpha_of_few_seeds_is_not_said_to_change_nothing() -> None:
    result = study((0, 5, 15), intervals=[NOTHING, NOTHING], failed=[(15, 1), (15, 2)])
    (found,) = headlines(inputs_of(result))
    assert found.startswith("Alpha 5 does not change held-out loss measurably: ")
    assert "; 1 or 3 seeds, 60 held-out samples" in found


def test_without_a_comparison_nothing_is_shown() -> None:
    assert headline() == f"Not shown: no alpha was compared with alpha 0{MEASURED.removeprefix('3 seeds')}."


def test_what_a_file_does_not_state_is_omitted() -> None:
    (found,) = headlines(inputs_of(study((0, 5), intervals=[LOWER])))
    assert found.endswith("(95 %: 0.6 to 5.9); 3 seeds, 60 held-out samples.")
    older = study((0, 5), (0,))
    for arm in older["arms"]:
        arm["held_out_per_sample"] = []
    assert headlines(inputs_of(older)) == ["Not shown: no alpha was compared with alpha 0."]


def test_a_small_difference_keeps_its_digits() -> None:
    assert "by 0.033 % (95 %: 0.006 to 0.059)" in headline(tuple(end / 100 for end in LOWER))


def test_the_percentage_is_of_the_seeds_that_were_paired() -> None:
    result = study((0, 5), (0, 1, 2, 3), [LOWER], failed=[(5, 3)])
    for arm in result["arms"]:
        if arm["seed"] == 3:
            arm["held_out_per_sample"] = [1000.0 for _ in arm["held_out_per_sample"]]
    assert headlines(inputs_of(result))[0].startswith("Alpha 5 lowers held-out loss by 3.3 %")


def test_impossible_losses_are_an_error() -> None:
    result = study((0, 5))
    for arm in result["arms"]:
        arm["held_out_per_sample"] = [value - 9 for value in arm["held_out_per_sample"]]
    with pytest.raises(DataError, match=r"the held-out loss of alpha 0 is -5.9\d*, where a number above 0 is expected"):
        headlines(inputs_of(result))
    result = study((0, 5))
    result["arms"][0]["held_out_per_sample"].pop()
    with pytest.raises(DataError, match="held_out_loss was measured on 59 samples of one arm and on 60 of another"):
        headlines(inputs_of(result))
