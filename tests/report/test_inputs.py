"""What can be given to a report, and what is said of the rest."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from lightning_neft.errors import DataError
from lightning_neft.report.inputs import read_inputs
from report.example import answer_file, study, text_statistics, write


def test_results_and_answers_are_recognised_by_content(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", text_statistics("alpha5"))
    two = answer_file(tmp_path / "two.json", "alpha5", [("q", "a")])
    inputs = read_inputs([two, one])
    assert [(result.kind, result.label) for result in inputs.results] == [("text_statistics", "alpha5")]
    assert [(file.label, len(file.records)) for file in inputs.answer_files] == [("alpha5", 1)]
    assert inputs.results[0].sha256 == hashlib.sha256(one.read_bytes()).hexdigest()


def test_results_printed_together_are_read_one_by_one(tmp_path: Path) -> None:
    together = tmp_path / "printed.json"
    both = [text_statistics("alpha0"), text_statistics("alpha5")]
    together.write_text(json.dumps({"results": both}), encoding="utf-8")
    results = read_inputs([together]).results
    assert [result.label for result in results] == ["alpha0", "alpha5"]
    assert {result.name for result in results} == {"printed.json"}
    both[1]["kind"] = "poem"
    together.write_text(json.dumps({"results": both}), encoding="utf-8")
    with pytest.raises(DataError, match=r"printed\.json: results\[1\] is not a result: kind is 'poem'"):
        read_inputs([together])


def test_files_of_the_same_name_get_different_labels(tmp_path: Path) -> None:
    paths = []
    for folder in ("alpha0", "alpha5"):
        (tmp_path / folder).mkdir()
        paths.append(answer_file(tmp_path / folder / "outputs.json", "mine", [("q", "a")]))
    files = read_inputs(paths).answer_files
    assert [file.label for file in files] == ["mine (alpha0/outputs.json)", "mine (alpha5/outputs.json)"]
    assert str(tmp_path) not in str([file.name for file in files])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{]", "JSON"),
        ('[{"instruction": "q"}]', "output"),
        ('["a"]', "odd.json"),
        ("{}", "is not a result"),
        ("", "is not a result"),
        ("\x00\x01", "is not a result"),
    ],
)
def test_other_files_are_named_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_inputs([path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answers_may_come_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "q", "output": "a", "generator": "g"}\n', encoding="utf-8")
    assert [file.label for file in read_inputs([path]).answer_files] == ["g"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json cannot be read: No such file"):
        read_inputs([tmp_path / "none.json"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arm: arm.update(alpha="five"), "arms[0]: alpha is 'five', where a number is expected"),
        (lambda arm: arm.pop("seed"), "arms[0]: seed is None, it must be a number"),
        (lambda arm: arm.update(state="fine"), "arms[0]: state is 'fine', it can be complete"),
        (lambda arm: arm.update(curves=[1]), "arms[0]: curves is [1], where an object is expected"),
        (lambda arm: arm["curves"].update({"val/loss": [[1]]}), "val/loss is [[1]], where a list of [step, value]"),
        (lambda arm: arm.update(answers=[3]), "arms[0]: answers is [3], where a list of objects is expected"),
    ],
)
def test_a_broken_study_is_reported_by_key(tmp_path: Path, change, message: str) -> None:
    result = study()
    change(result["arms"][0])
    path = tmp_path / "study.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        read_inputs([path])


def test_an_interval_turned_round_is_an_error(tmp_path: Path) -> None:
    result = study(intervals=((0.0, 0.2, -0.2),), alphas=(0, 5))
    with pytest.raises(DataError, match=r"low is 0\.2, above high"):
        read_inputs([write(tmp_path / "study.json", result)])
