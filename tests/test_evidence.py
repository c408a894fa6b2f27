"""The script of the evidence: what counts as a call, and results that are gathered seed by seed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from lightning_neft.evaluation.records import Output
from lightning_neft.evaluation.result import make_result, write_result
from lightning_neft.evaluation.study_result import ArmResult, StudyResult
from pages import ROOT

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    module = importlib.import_module("evidence")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (CALL, "add"),
        (f"I will add.\n{CALL} and {CALL.replace('add', 'sub')}", "add"),
        (CALL.replace('"a": 1', '"a": '), None),
        (CALL.replace('{"a": 1}', "null"), None),
        (CALL.removesuffix("</tool_call>"), None),
        ("<tool_call>[]</tool_call>", None),
        ("3", None),
    ],
)
def test_a_call_is_json_with_a_name_and_arguments(evidence: ModuleType, answer: str, name: str | None) -> None:
    assert evidence.called_tool(answer) == name


def test_a_held_out_conversation_ends_with_its_first_call(evidence: ModuleType) -> None:
    turns = [{"from": who, "value": who} for who in ("human", "function_call", "observation", "function_call", "gpt")]
    found = evidence._until_first_call({"conversations": turns, "tools": "[]"})
    assert [turn["from"] for turn in found["conversations"]] == ["human", "function_call"]
    assert evidence._begins({"conversations": turns}, found["conversations"])
    assert evidence._until_first_call({"conversations": turns[:1]}) is None


def gathered(evidence: ModuleType, tmp_path: Path, seed: int, loss: float, data: str = "1") -> None:
    """Keep a seed of a study of two samples."""
    (tmp_path / evidence.SMOL).mkdir(exist_ok=True)
    (tmp_path / evidence.SMOL / "model.safetensors").write_text("weights")
    (tmp_path / "dolly_3k.json").write_text(data)
    run = evidence.Run("dolly", seed, tmp_path, tmp_path, tmp_path / "out", 1)
    answers = [Output(instruction="x", output="a b c", reference="a b")]
    arms = [
        ArmResult(alpha, seed, "complete", held_out_per_sample=[loss + alpha, loss], answers=answers)
        for alpha in (5.0, 0.0)
    ]
    metrics = StudyResult(arms=arms, comparisons=[]).metrics()
    write_result(run.study / "study.json", make_result("study", "study", metrics, {"versions": {"torch": "2"}}))
    (run.folder / "picked.json").write_text('{"learning_rate": 1e-4, "candidates": {}}')
    (run.folder / "samples.json").write_text('[{"output": "a b c d"}]')
    run.keep()


def test_seeds_are_added_to_the_result(evidence: ModuleType, tmp_path: Path) -> None:
    for seed in (1, 0):
        gathered(evidence, tmp_path, seed, loss=2.0 + seed)
    result = json.loads((evidence.RESULTS / "dolly.json").read_text())
    assert [(arm["alpha"], arm["seed"]) for arm in result["arms"]] == [(0, 0), (0, 1), (5, 0), (5, 1)]
    assert [arm["per_sample"]["held_out_loss"] for arm in result["arms"]] == [[2, 2], [3, 3], [7, 2], [8, 3]]
    assert result["arms"][0]["per_sample"]["rouge_l_to_reference"] == [0.8]


def test_seeds_of_other_data_are_refused(evidence: ModuleType, tmp_path: Path) -> None:
    gathered(evidence, tmp_path, 0, loss=2.0)
    with pytest.raises(SystemExit, match="data_sha256 differ"):
        gathered(evidence, tmp_path, 1, loss=2.0, data="2")
