"""lm-evaluation-harness on the tiny model, with a task of one file and no network."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_neft.errors import ConfigError, DataError
from lightning_neft.evaluation import capability as module
from lightning_neft.evaluation.capability import capability
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models.weights import load_weights

pytest.importorskip("lm_eval")

DOCUMENTS = [
    {"question": "Say cat.", "choices": ["cat", "banana"], "answer": 0},
    {"question": "Say dog.", "choices": ["dog", "the sea"], "answer": 0},
    {"question": "Say hen.", "choices": ["hen", "one two"], "answer": 1},
]


@pytest.fixture(scope="module")
def model() -> Any:
    return load_weights("AutoModelForCausalLM", "tiny")[0]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(json.dumps(one) + "\n" for one in DOCUMENTS))
    config = {
        "task": "toy_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(documents)}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 3.0},
    }
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def accuracy(model: Any) -> float:
    """The same said anew: the choice with the highest log-likelihood after the question and a space."""
    tokenizer = load_tokenizer("tiny")
    right = 0
    for one in DOCUMENTS:
        scores = []
        for choice in one["choices"]:  # type: ignore[attr-defined]
            start = tokenizer(one["question"], add_special_tokens=False)["input_ids"]
            whole = tokenizer(f"{one['question']} {choice}", add_special_tokens=False)["input_ids"]
            ids = torch.tensor([whole])
            with torch.no_grad():
                logs = model(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
            scores.append(logs[len(start) - 1 :].sum().item())
        right += scores.index(max(scores)) == one["answer"]
    return right / len(DOCUMENTS)


def test_a_local_task_gives_its_metrics(model: Any, task: str) -> None:
    model.train()
    found = capability(model, load_tokenizer("tiny"), [task], batch_size=2, trust_remote_code=True)
    assert model.training
    model.eval()
    assert found["tasks"]["toy_choice"]["acc"] == pytest.approx(accuracy(model))
    assert found["tasks"]["toy_choice"]["acc_stderr"] > 0
    assert (found["n_samples"], found["n_shot"]) == ({"toy_choice": 3}, {"toy_choice": 0})
    assert found["task_versions"] == {"toy_choice": "3.0"}
    json.dumps(found, allow_nan=False)


def test_a_limit_is_kept_and_what_is_no_number_is_none(model: Any, task: str) -> None:
    found = capability(model, load_tokenizer("tiny"), [task], limit=1, trust_remote_code=True)
    assert found["n_samples"] == {"toy_choice": 1}
    assert found["tasks"]["toy_choice"]["acc_stderr"] is None


def test_the_harness_keeps_its_log_level(model: Any, task: str) -> None:
    logger = logging.getLogger("lm_eval")
    before = logger.level
    capability(model, load_tokenizer("tiny"), [task], limit=1, trust_remote_code=True)
    assert logger.level == before


def test_a_missing_file_is_said_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"--tasks: the file 'nowhere.yaml' does not exist"):
        capability(torch.nn.Linear(1, 1), None, ["nowhere.yaml"])  # type: ignore[arg-type]


@pytest.mark.parametrize("trusted", [False, True])
def test_a_file_of_a_task_runs_code_only_if_it_is_trusted(trusted: bool, model: Any, task: str, tmp_path: Path) -> None:
    touching = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    (tmp_path / "mine.py").write_text(f"{touching}def same(docs):\n    return docs\n")
    Path(task).write_text(Path(task).read_text() + "process_docs: !function mine.same\n")
    if trusted:
        capability(model, load_tokenizer("tiny"), [task], limit=1, trust_remote_code=True)
    else:
        with pytest.raises(ConfigError, match=r"toy.yaml can run Python code .* add --trust-remote-code if you trust"):
            capability(model, load_tokenizer("tiny"), [task], limit=1)
    assert (tmp_path / "ran").exists() == trusted


@pytest.fixture(scope="module")
def harness() -> Any:
    """All tasks of the harness, which takes seconds to read; for the tests of one xdist group."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


@pytest.mark.slow
@pytest.mark.xdist_group("harness")
def test_a_misspelt_task_is_said_with_the_nearest_one(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda include_defaults: harness if include_defaults else None)
    with pytest.raises(ConfigError, match=r"unknown task 'arc_chalenge'; did you mean arc_challenge\?"):
        capability(torch.nn.Linear(1, 1), None, ["arc_chalenge"])  # type: ignore[arg-type]


def test_a_task_without_its_data_is_one_line(model: Any, task: str, tmp_path: Path) -> None:
    (tmp_path / "documents.jsonl").unlink()
    with pytest.raises(DataError, match=r"the tasks .*toy.yaml cannot be run: FileNotFoundError: .*documents.jsonl"):
        capability(model, load_tokenizer("tiny"), [task], trust_remote_code=True)


@pytest.mark.slow
@pytest.mark.xdist_group("harness")
def test_the_preset_names_tasks_of_the_harness(harness: Any) -> None:
    preset = yaml.safe_load(module._PRESETS["open-llm"].read_text())
    shots = {one["task"]: one["num_fewshot"] for one in preset["task"]}
    assert shots == {"arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0}
    assert set(shots) <= set(harness.all_tasks)


def test_without_the_harness_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lightning-neft\[harness\]'"):
        capability(None, None, ["open-llm"])  # type: ignore[arg-type]
