"""The script of the evidence: what counts as a call, and results that are gathered seed by seed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lightning_neft.evaluation.records import Output
from lightning_neft.evaluation.result import make_result, write_result
from lightning_neft.evaluation.study_result import ArmResult, StudyResult
from lightning_neft.recipes.recipe import load_recipe
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
    found = evidence.until_first_call({"conversations": turns, "tools": "[]"}, 250)
    assert [turn["from"] for turn in found["conversations"]] == ["human", "function_call"]
    assert evidence.begins({"conversations": turns}, found["conversations"])
    assert evidence.until_first_call({"conversations": turns[:1]}, 250) is None


ANSWERS = [Output(instruction="x", output="a b c", reference="a b")]


def prepared(
    evidence: ModuleType, tmp_path: Path, seed: int, data: str = "1", name: str = "dolly", out: str = "out"
) -> Any:
    """Return a run on small files."""
    (tmp_path / evidence.SMOL).mkdir(exist_ok=True)
    (tmp_path / evidence.SMOL / "model.safetensors").write_text("weights")
    (tmp_path / "dolly_3k.json").write_text(data)
    run = evidence.Run(name, seed, tmp_path, tmp_path, tmp_path / out, 1)
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "samples.json").write_text('[{"output": "a b c d"}]')
    return run


def studied(folder: Path, arms: list[ArmResult]) -> None:
    """Write a study that has ended."""
    metrics = StudyResult(arms=arms, comparisons=[]).metrics()
    write_result(folder / "study.json", make_result("study", "study", metrics, {"versions": {"torch": "2"}}))


def gathered(
    evidence: ModuleType,
    tmp_path: Path,
    seed: int,
    loss: float,
    data: str = "1",
    weights: str = "a",
    name: str = "dolly",
    alphas: tuple[float, ...] = (5.0, 0.0),
) -> None:
    """Keep a seed of a study of two samples."""
    run = prepared(evidence, tmp_path, seed, data, name)
    arms = [
        ArmResult(
            alpha,
            seed,
            "complete",
            held_out_per_sample=[loss + alpha, loss],
            answers=ANSWERS,
            digests={"weights": weights},
        )
        for alpha in alphas
    ]
    studied(run.study, arms)
    (run.folder / "picked.json").write_text('{"learning_rate": 1e-4, "candidates": {}}')
    run.keep()


def test_seeds_are_added_to_the_result(evidence: ModuleType, tmp_path: Path) -> None:
    for seed in (1, 0):
        gathered(evidence, tmp_path, seed, loss=2.0 + seed)
    result = json.loads((evidence.RESULTS / "dolly.json").read_text())
    assert [(arm["alpha"], arm["seed"]) for arm in result["arms"]] == [(0, 0), (0, 1), (5, 0), (5, 1)]
    assert [arm["per_sample"]["held_out_loss"] for arm in result["arms"]] == [[2, 2], [3, 3], [7, 2], [8, 3]]
    assert result["arms"][0]["per_sample"]["rouge_l_to_reference"] == [0.8]


def test_an_arm_of_another_machine_is_not_trained_again(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered(evidence, tmp_path, 0, loss=2.0)
    run = evidence.Run("dolly", 0, tmp_path, tmp_path, tmp_path / "elsewhere", 1)
    monkeypatch.setattr(run, "write_samples", lambda: None)
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(run, "_study", lambda *args: asked.append(args))
    run.train()
    skipped = {file.parent.name: json.loads(file.read_text()) for file in run.study.glob("arms/*/arm.json")}
    assert skipped == {name: {"state": "pruned"} for name in ("alpha-0-seed-0", "alpha-5-seed-0")}
    # The learning rate is that of the result: no candidate is trained.
    assert asked == [(run.study, 1e-4, "0,5,15,45", 0, 1)]


def test_arms_of_a_seed_have_the_precision_of_its_first(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "native_bfloat16", lambda device: (device == "cpu", ""))
    gathered(evidence, tmp_path, 0, loss=2.0)
    # A processor without bfloat16 goes on.
    monkeypatch.setattr(evidence, "native_bfloat16", lambda device: (False, ""))
    gathered(evidence, tmp_path, 1, loss=2.0)
    arms = json.loads((evidence.RESULTS / "dolly.json").read_text())["arms"]
    assert {(arm["seed"], arm["precision"]) for arm in arms} == {(0, "bf16-mixed"), (1, "32-true")}
    runs = [evidence.Run("dolly", seed, tmp_path, tmp_path, tmp_path / "out", 1) for seed in (0, 1, 2)]
    assert [run.precision(run.seed) for run in runs] == ["bf16-mixed", "32-true", "32-true"]
    # It shares the arms without noise.
    assert evidence.Run("dolly-padded", 0, tmp_path, tmp_path, tmp_path / "out", 1).precision(0) == "bf16-mixed"


def test_a_setting_shares_the_arms_without_noise(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered(evidence, tmp_path, 0, loss=2.0)
    run = evidence.Run("dolly-padded", 0, tmp_path, tmp_path, tmp_path / "elsewhere", 1)
    monkeypatch.setattr(run, "write_samples", lambda: None)
    monkeypatch.setattr(run, "_study", lambda *args: None)
    run.train()
    assert [file.parent.name for file in run.study.glob("arms/*/arm.json")] == ["alpha-0-seed-0"]

    gathered(evidence, tmp_path, 0, loss=3.0, name="dolly-padded", alphas=(5.0,))
    result = json.loads((evidence.RESULTS / "dolly-padded.json").read_text())
    losses = {arm["alpha"]: arm["per_sample"]["held_out_loss"] for arm in result["arms"]}
    assert losses == {0: [2, 2], 5: [8, 3]}
    with pytest.raises(SystemExit, match=r"dolly\.json: its data_sha256 differ"):
        gathered(evidence, tmp_path, 0, loss=3.0, data="2", name="dolly-padded", alphas=(5.0,))
    with pytest.raises(SystemExit, match="not a pair with alpha 0"):
        gathered(evidence, tmp_path, 0, loss=3.0, weights="b", name="dolly-padded", alphas=(5.0,))


def test_the_learning_rate_is_picked_without_noise(
    evidence: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {2e-5: 2.5, 5e-5: 2.25, 1e-4: 2.75}
    trained: list[float] = []
    failing = [1e-4]

    def study(folder: Path, rate: float, alphas: str, seed: int, workers: int) -> None:
        assert (alphas, seed, workers) == ("0", 0, 1)
        if rate in failing:
            raise SystemExit
        trained.append(rate)
        arm = ArmResult(
            0.0,
            0,
            "complete",
            held_out_loss=losses[rate],
            held_out_per_sample=[losses[rate]],
            answers=ANSWERS,
            digests={"weights": "a"},
        )
        studied(folder, [arm])

    def run(machine: str, data: str = "1") -> Any:
        made = prepared(evidence, tmp_path, 1, data, out=machine)
        monkeypatch.setattr(made, "_study", study)
        return made

    monkeypatch.setattr(evidence, "native_bfloat16", lambda _: (True, ""))
    with pytest.raises(SystemExit):
        run("first")._picked()
    # Another machine trains what is missing, in the precision of the others.
    monkeypatch.setattr(evidence, "native_bfloat16", lambda _: (False, ""))
    assert run("second").precision(0) == "bf16-mixed"
    failing.clear()
    with pytest.raises(SystemExit, match=r"dolly-\S+\.json: its data_sha256 is not that of the other candidates"):
        run("second", data="2")._picked()
    (evidence.RESULTS / "candidates" / "dolly-0.0001.json").unlink()
    candidates = {"2e-05": 2.5, "5e-05": 2.25, "0.0001": 2.75}
    assert run("third")._picked() == {"learning_rate": 5e-5, "candidates": candidates}
    assert trained == [2e-5, 5e-5, 1e-4, 1e-4]
    # It is the first arm of the result.
    result = json.loads((evidence.RESULTS / "dolly.json").read_text())
    assert (result["setting"]["learning_rate"], result["setting"]["candidates"]) == (5e-5, candidates)
    ((arm, loss),) = [(arm, arm["per_sample"]["held_out_loss"]) for arm in result["arms"]]
    assert (arm["alpha"], arm["seed"], arm["precision"], loss) == (0, 0, "bf16-mixed", [2.25])
    assert not list((evidence.RESULTS / "candidates").iterdir())
    assert run("fourth")._picked() == {"learning_rate": 5e-5, "candidates": candidates}


def test_seeds_of_other_data_are_refused(evidence: ModuleType, tmp_path: Path) -> None:
    gathered(evidence, tmp_path, 0, loss=2.0)
    with pytest.raises(SystemExit, match="data_sha256 differ"):
        gathered(evidence, tmp_path, 1, loss=2.0, data="2")


def test_arms_that_are_not_pairs_are_refused(evidence: ModuleType, tmp_path: Path) -> None:
    gathered(evidence, tmp_path, 0, loss=2.0)
    with pytest.raises(SystemExit, match=r"its weights at the start .* are b, not a"):
        gathered(evidence, tmp_path, 0, loss=2.0, weights="b")


LOSSES = {0.0: [2.0, 3.0, 2.5, 2.2], 5.0: [1.5, 2.4, 2.1, 1.6], 15.0: [2.1, 2.9, 2.4, 2.4]}


def kept(evidence: ModuleType, seeds: int = 3) -> None:
    """Keep the result of a setting: alpha 5 is better on all samples, 15 on half of them."""
    arms: list[dict[str, Any]] = [
        {
            "alpha": alpha,
            "seed": seed,
            "precision": "bf16-mixed" if seed else "32-true",
            "noise_to_signal": alpha / 10 or None,
            "train_clean_loss": 1 + alpha + seed,
            "token_accuracy_curve": [[9, 0.25], [19, 0.5]],
            # After the first epoch seed 0 has its lowest loss with alpha 0, seed 1 with 5, seed 2 with 15.
            "held_out_curve": [[9, 1.0 + (seed != place)], [19, 3.0 + place]],
            "per_sample": {
                "held_out_loss": [loss + seed / 8 for loss in losses],
                # A word has no 2-grams.
                "repetition_2": [None if alpha else 0.5, 0.25, 0.25, 0.75 if alpha else 0.25],
            },
        }
        for place, (alpha, losses) in enumerate(LOSSES.items())
        for seed in range(seeds)
    ]
    setting = {"base": "base", "data": "data", "alphas": "0,5,15", "samples": 8, "epochs": 2}
    setting |= {"learning_rate": 1e-4, "held_out": 4, "options": [], "baseline": None}
    evidence.RESULTS.mkdir(exist_ok=True)
    (evidence.RESULTS / "dolly.json").write_text(json.dumps({"setting": setting, "arms": arms}))


@pytest.fixture
def evidence_page(evidence: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = importlib.import_module("evidence_page")
    monkeypatch.setattr(module, "RESULTS", evidence.RESULTS)
    return module


def test_the_table_has_paired_differences(evidence: ModuleType, evidence_page: ModuleType) -> None:
    kept(evidence)
    (result,) = evidence_page.complete_results()
    assert result.differences["held_out_loss", 5.0] == pytest.approx(np.array([[-0.5, -0.6, -0.4, -0.6]] * 3))
    # The first sample lacks it in the arms with noise.
    assert result.differences["repetition_2", 5.0] == pytest.approx(np.array([[0, 0, 0.5]] * 3))
    assert ("held_out_loss", 5.0) in result.evidence
    assert ("held_out_loss", 15.0) not in result.evidence
    lines = list(evidence_page.tables([result]))
    assert "base on 8 samples of data, 2 epochs, learning rate 0.0001, 3 seeds, 4 held out, " in lines[2]
    assert lines[2].endswith("precision 32-true and bf16-mixed.")
    assert "| | alpha 0 | alpha 5 | alpha 15 |" in lines
    assert "| noise-to-signal | | 0.50 | 1.50 |" in lines
    (losses,) = [line for line in lines if line.startswith("| held-out loss |")]
    interval = result.intervals["held_out_loss", 5.0]
    assert losses.startswith(f"| held-out loss | 2.550 | **-0.525 ({interval.low:+.3f} to {interval.high:+.3f})** | ")
    assert "| training loss | 2.000 | +5.000" in "\n".join(lines)
    assert "- `dolly-overfit`: 0 of 12 arms" in lines


def test_a_table_says_in_what_its_setting_differs(evidence: ModuleType, evidence_page: ModuleType) -> None:
    kept(evidence)
    (result,) = evidence_page.complete_results()
    result.setting["options"] = ["--neftune.length=padded"]
    assert list(evidence_page.tables([result]))[2].endswith(" and bf16-mixed, `--neftune.length=padded`.")
    result.setting["baseline"] = "other"
    assert list(evidence_page.tables([result]))[2].endswith("padded`. Alpha 0 is that of `other`.")
    assert not [line for line in evidence_page.probe_table([result]) if "dolly" in line]


@pytest.mark.parametrize("setting", ["dolly", "dolly-lora"])
def test_the_card_of_a_compared_alpha_has_the_results(evidence_page: ModuleType, setting: str) -> None:
    result = evidence_page.Result.read(Path(ROOT) / "benchmarks" / "results" / "evidence" / f"{setting}.json")
    source = load_recipe(f"smollm2-135m-instruct/{setting.replace('dolly', 'dolly-3k')}").alpha_source
    assert source.kind == "executed"
    for alpha in result.alphas[1:]:
        change = evidence_page._cell(result, "held_out_loss", alpha, 3).strip("*")
        assert f"{change} with {alpha:g}" in source.reference


def test_the_figure_marks_what_is_evidence(evidence: ModuleType, evidence_page: ModuleType) -> None:
    kept(evidence)
    evidence_page.DRAWN = ("held_out_loss", "repetition_2")
    (curves, losses, _) = evidence_page.draw(evidence_page.complete_results()).axes
    assert [line.get_ydata().tolist() for line in curves.get_lines()] == [
        pytest.approx([5 / 3, last]) for last in (3, 4, 5)
    ]
    marks = [line for line in losses.get_lines() if line.get_marker() == "o"]
    assert [round(float(line.get_xdata()[0]), 6) for line in marks] == [-0.525, 0.025]
    assert [line.get_markerfacecolor() != "none" for line in marks] == [True, False]
    assert [tick.get_text() for tick in losses.get_yticklabels()] == ["alpha 5", "alpha 15"]


def test_a_choice_is_judged_by_the_other_seeds(evidence: ModuleType, evidence_page: ModuleType) -> None:
    kept(evidence)
    (result,) = evidence_page.complete_results()
    assert result.best_alpha == 5
    assert result.probed == [0, 5, 15]
    result.arms[0.0, 0]["per_sample"]["held_out_loss"] = [9.0] * 4
    assert result.regrets(result.probed) == pytest.approx(
        np.array([[0.5, 0.6, 0.4, 0.6], [0] * 4, [0.6, 0.5, 0.3, 0.8]])
    )
    (line,) = [line for line in evidence_page.probe_table([result]) if "dolly" in line]
    assert line.startswith("| `dolly` | 5 | 0, 5, 15 | 0.358 | ")
    assert " | 0.000 | +0.358 (" in line


def test_settings_with_too_few_seeds_are_not_shown(evidence: ModuleType, evidence_page: ModuleType) -> None:
    kept(evidence, seeds=2)
    assert evidence_page.complete_results() == []
    assert "- `dolly`: 6 of 12 arms" in list(evidence_page.tables([]))


def test_only_the_text_between_the_marks_changes(evidence: ModuleType, evidence_page: ModuleType) -> None:
    from marked_text import END, mark

    kept(evidence)
    text = evidence_page.page(f"before {mark(evidence_page.SCRIPT)} old {END} after")
    assert text.startswith("before <!--")
    assert text.endswith("--> after")
    assert "old" not in text
    assert evidence_page.page(text) == text


@pytest.mark.parametrize("seeds", [2, 3])
def test_what_cannot_be_written_leaves_the_page_alone(
    evidence: ModuleType, evidence_page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int
) -> None:
    kept(evidence, seeds)
    page, figure = tmp_path / "page.md", tmp_path / "figure.svg"
    page.write_text("no marks")
    monkeypatch.setattr(evidence_page, "PAGE", page)
    monkeypatch.setattr(evidence_page, "FIGURE", figure)
    with pytest.raises(SystemExit, match="lacks the marks" if seeds == 3 else "has 3 seeds yet"):
        evidence_page.main()
    assert page.read_text() == "no marks"
    assert not figure.exists()
