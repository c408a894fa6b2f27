"""`evaluate --ablation` and `evaluate --tasks`: a model that answers, its files, and mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lightning_neft.cli.main import main

VARIANTS = ["plain", "long", "comprehensive", "long_comprehensive", "min_new_tokens"]


@pytest.fixture
def prompts(folder: Path) -> str:
    records = [{"instruction": f"Say {word}.", "dataset": "toy"} for word in ("cat", "dog", "hen")]
    (folder / "prompts.json").write_text(json.dumps(records))
    return "prompts.json"


@pytest.fixture
def task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    documents = [{"question": "Say cat.", "choices": ["cat", "dog"], "answer": index % 2} for index in range(4)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    config = {
        "task": "toy_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "documents.jsonl"}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(config))
    return "toy.yaml"


def test_the_ablation_writes_outputs_that_evaluate_reads(
    prompts: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["evaluate", "--ablation", "--model", "tiny", "--template", "alpaca", "--prompts", prompts]
    assert main([*args, "--limit", "2", "--max-new-tokens", "24", "--min-new-tokens", "20"]) == 0
    assert "mean length of the answers to 2 prompts" in capsys.readouterr().out
    result = json.loads((folder / "results/tiny-length_ablation.json").read_text())
    assert (result["kind"], result["label"]) == ("length_ablation", "tiny")
    assert [one["name"] for one in result["variants"]] == VARIANTS
    assert result["variants"][-1]["min_new_tokens"] == 20
    assert [one["role"] for one in result["provenance"]["inputs"]] == ["prompts"]
    for one in result["variants"]:
        outputs = json.loads((folder / "results" / one["outputs"]).read_text())
        assert [row["instruction"] for row in outputs] == ["Say cat.", "Say dog."]
        assert outputs[0]["generator"] == f"tiny ({one['name']})"
        assert one["mean_characters"] == pytest.approx(sum(len(row["output"]) for row in outputs) / 2)
    assert main(["evaluate", "--outputs", "results/tiny-min_new_tokens-outputs.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean_characters"] == result["variants"][-1]["mean_characters"]


def test_another_last_checkpoint_is_another_model(task: str, short: list[str], folder: Path) -> None:
    args = ["evaluate", "--tasks", task, "--trust-remote-code", "--limit=1", *short, "--name=a", "--ckpt_path=last"]
    for seed in (1, 2):
        assert main(["fit", *short, "--name=a", "--samples=0", f"--seed_everything={seed}"]) == 0
        assert main(args) == main(args) == 0
    assert [path.name for path in sorted((folder / "results").iterdir())] == [
        "a-last-capability-2.json",
        "a-last-capability.json",
    ]


def test_a_local_task_runs_on_a_model(task: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["evaluate", "--tasks", task, "--trust-remote-code", "--model", "tiny"]
    assert main([*args, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Every other answer is the right one, whichever the model prefers.
    assert found["tasks"] == {"toy_choice": {"acc": 0.5, "acc_stderr": pytest.approx(0.2886751)}}
    assert found["provenance"]["inputs"][0]["name"] == "toy.yaml"
    assert main([*args, "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "toy_choice" in shown
    assert "not comparable with published numbers" in shown


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ("--ablation --model tiny", "--prompts"),
        ("--ablation --prompts prompts.json", "--model"),
        ("--ablation --prompts none.json --model tiny", "none.json"),
        ("--ablation --prompts prompts.json --model tiny --max-new-tokens 9", "--max-new-tokens 9"),
        ("--ablation --prompts prompts.json --min-new-tokens 0", "--min-new-tokens"),
        ("--ablation --prompts prompts.json --limit 0", "--limit"),
        ("--tasks none.yaml --model tiny", "none.yaml"),
        ("--tasks none.yaml --model tiny --template alpaca", "--template"),
        ("--tasks none.yaml --batch-size 0", "--batch-size"),
    ],
)
def test_mistakes_are_one_line(
    args: str,
    named: str,
    prompts: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
) -> None:
    assert main(["evaluate", *args.split()]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    snapshot(error.rstrip("\n"))
    assert not (folder / "results").exists()
