"""AlpacaEval's files: what is read, and how each thing that is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_neft.errors import DataError
from lightning_neft.evaluation.annotations import difference_result, read_judged, win_rate_result
from lightning_neft.evaluation.records import Output, read_annotations, read_outputs


def annotation(number: int, preference: Any, **changes: Any) -> dict[str, Any]:
    return {
        "instruction": f"question {number}",
        "output_1": "base",
        "generator_1": "baseline",
        "output_2": "a longer one"[: 4 + number],
        "generator_2": "alpha5",
        "annotator": "judge",
        "preference": preference,
        **changes,
    }


def written(path: Path, records: Any) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_outputs_are_read_from_a_list_and_from_lines(tmp_path: Path) -> None:
    records = [
        {"instruction": "a", "output": "x", "generator": "m", "dataset": "d", "reference": "y"},
        {"instruction": "a", "input": "b", "output": "", "price": 3},
    ]
    expected = [Output("a", "x", "m", "", "y", "d"), Output("a", "", "", "b")]
    assert read_outputs(written(tmp_path / "a.json", records)) == expected
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert read_outputs(tmp_path / "a.jsonl") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.json is empty"),
        ("[]", "is an empty list"),
        ("[1]", "record 1"),
        ('[{"instruction": "a"', "line 1"),
        ('[{"instruction": "a", "output": "b"}, {"instruction": "c"}]', "record 2 has no 'output'; its keys are"),
        ('[{"instruction": "a", "output": null}]', "record 1: 'output' is None, it must be a string"),
        ('[{"instruction": 3, "output": "b"}]', "record 1: 'instruction' is 3, it must be a string"),
        (
            '[{"instruction": "a", "output": "b"}, {"instruction": "a", "output": "c"}]',
            "record 2 has the same instruction as .*record 1: 'a'; keep one",
        ),
    ],
)
def test_what_is_no_outputs_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_outputs(tmp_path / "x.json")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.json does not exist"):
        read_outputs(tmp_path / "x.json")
    with pytest.raises(DataError, match="is a folder"):
        read_outputs(tmp_path)


@pytest.mark.parametrize(("given", "preference"), [(0, 1.5), (1, 1), (2.0, 2), (1.5, 1.5), (1.25, 1.25), (None, None)])
def test_preferences_are_alpacaevals(given: Any, preference: float | None, tmp_path: Path) -> None:
    (found,) = read_annotations(written(tmp_path / "a.json", [annotation(0, given)]))
    assert found.preference == preference


def test_a_preference_that_is_not_a_number_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([annotation(0, float("nan"))]))
    assert read_annotations(tmp_path / "a.json")[0].preference is None


@pytest.mark.parametrize("preference", [3, -1, 0.5, "2", True, [1]])
def test_other_preferences_are_refused(preference: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", [annotation(0, 1), annotation(1, preference)])
    with pytest.raises(DataError, match=r"record 2: 'preference' is .*, it must be 1 \(output_1 won\), 2"):
        read_annotations(path)


def test_a_win_rate_has_what_a_reader_needs_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", [annotation(n, p) for n, p in enumerate([2, 1, 0, 2, None])])
    found = win_rate_result(read_judged(path))
    assert (found["label"], found["baseline_label"], found["judge"]) == ("alpha5", "baseline", "judge")
    assert (found["n_total"], found["n_unjudged"]) == (4, 1)
    assert (found["n_wins"], found["n_losses"], found["n_draws"]) == (2, 1, 1)
    assert found["win_rate"] == 62.5
    assert found["per_sample"] == [1, 0, 0.5, 1]
    assert found["mean_characters"] == pytest.approx((4 + 5 + 6 + 7) / 4)
    assert found["baseline_mean_characters"] == 4
    assert found["length_controlled_win_rate"] is not None


def test_the_length_is_that_of_the_model_minus_the_baselines(tmp_path: Path) -> None:
    # Longer answers of output_2 win more often.
    lengths = [1, 2, 3, 4, 5, 6, 7, 8]
    records = [
        annotation(n, preference, output_2="x" * n, output_1="four")
        for n, preference in zip(lengths, [1, 1, 2, 1, 2, 1, 2, 2], strict=True)
    ]
    assert win_rate_result(read_judged(written(tmp_path / "a.json", records)))["length_effect"] > 1


def test_files_of_several_models_or_no_verdicts_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", [annotation(0, 1), annotation(1, 1, generator_2="alpha10")])
    with pytest.raises(DataError, match=r"annotations \(generator_2\) of several models \('alpha10', 'alpha5'\)"):
        read_judged(path)
    path = written(tmp_path / "a.json", [annotation(0, None)])
    with pytest.raises(DataError, match="none of its 1 records has a preference"):
        read_judged(path)


def test_differences_pair_by_instruction_whatever_the_order(tmp_path: Path) -> None:
    plain = [annotation(n, preference, generator_2="plain") for n, preference in enumerate([1, 1, 2, 1])]
    noisy = [annotation(n, preference) for n, preference in enumerate([2, 1, 2, 0])]
    first = read_judged(written(tmp_path / "a.json", plain))
    found = difference_result(first, read_judged(written(tmp_path / "b.json", noisy[::-1])))
    assert (found["label"], found["baseline_label"], found["n_total"]) == ("alpha5", "plain", 4)
    assert found["difference"] == pytest.approx(100 * (1 + 0 + 0 + 0.5) / 4)
    same = difference_result(first, read_judged(written(tmp_path / "c.json", noisy)))
    assert (found["low"], found["high"]) == (same["low"], same["high"])
    assert found["low"] < found["difference"] < found["high"]
    assert [item["name"] for item in found["provenance"]["inputs"]] == ["a.json", "b.json"]


@pytest.mark.parametrize("is_first_short", [True, False])
def test_the_first_instruction_that_is_missing_is_named(is_first_short: bool, tmp_path: Path) -> None:
    whole = read_judged(written(tmp_path / "whole.json", [annotation(n, 1 + n % 2) for n in range(4)]))
    short = read_judged(written(tmp_path / "short.json", [annotation(n, 1) for n in (0, 3)]))
    pair = (short, whole) if is_first_short else (whole, short)
    with pytest.raises(DataError, match=r"do not pair up: short.json has no verdict about 'question 1' and 1 more"):
        difference_result(*pair)


def test_different_baselines_have_no_difference(tmp_path: Path) -> None:
    first = read_judged(written(tmp_path / "a.json", [annotation(0, 1), annotation(1, 2)]))
    other = read_judged(written(tmp_path / "b.json", [annotation(n, 1, generator_1="gpt") for n in (0, 1)]))
    with pytest.raises(DataError, match="different baselines, 'baseline' and 'gpt'"):
        difference_result(first, other)
