"""The held-out loss of a study is one statistic: in the file, on the terminal and on the page."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_neft.cli.study_display import Display
from lightning_neft.evaluation.clean_loss import CleanLosses
from lightning_neft.evaluation.result import Fields, make_result, provenance
from lightning_neft.evaluation.study_result import ArmResult, StudyResult
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.sections.study import arm_table, summary
from lightning_neft.study import measure as module
from lightning_neft.study.arm import Measures
from lightning_neft.study.plan import Plan
from lightning_neft.study.result import compare

# Two short samples that the noise makes better, and a long one that it makes worse by less: over samples the noise
# lowers the loss by 0.1 on average, over tokens it raises it.
TOKENS = [2, 2, 200]
PLAIN, NOISY = [2.0, 3.0, 1.0], [1.8, 2.8, 1.1]
SEEDS = (0, 1, 2)


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A study of three seeds, each arm measured as a study does."""
    arms = []
    for alpha, losses in ((0.0, PLAIN), (5.0, NOISY)):
        for seed in SEEDS:
            level = [seed / 2 + loss + 0.001 * seed * place for place, loss in enumerate(losses)]
            monkeypatch.setattr(module, "clean_losses", lambda *_, found=level: CleanLosses([0, 1, 2], found, TOKENS))
            empty: Any = SimpleNamespace(
                prepared=SimpleNamespace(stream=None, tokenizer=None, held_out=SimpleNamespace(samples=[])),
                to=lambda device: None,
                strategy=SimpleNamespace(root_device="cpu"),
                precision_plugin=SimpleNamespace(val_step_context=nullcontext),
            )
            monkeypatch.setattr(module, "token_counts", lambda *_: None)
            measured = module.measure(empty, empty, empty, Measures(answers=0, max_new_tokens=1, memorization=0))
            folder = f"arms/alpha-{alpha:g}-seed-{seed}"
            more = {"state": "complete", "error": None, "seconds": 1.0, "folder": folder, "curves": {}}
            arms.append(ArmResult.read(Fields({"alpha": alpha, "seed": seed, **more, **measured}, "arm.json")))
    metrics = StudyResult(label="r", recipe="r", arms=arms, comparisons=compare(arms)).metrics()
    return make_result("study", "r", metrics, provenance([], {}, None))


def test_losses_and_their_difference_are_means_over_samples(result: dict[str, Any]) -> None:
    by_tokens = [sum(map(lambda one, n: one * n, losses, TOKENS)) / sum(TOKENS) for losses in (PLAIN, NOISY)]
    assert by_tokens[1] > by_tokens[0]  # the other sign
    losses = {(arm["alpha"], arm["seed"]): arm["held_out_loss"] for arm in result["arms"]}
    of_arms = sum(losses[5.0, seed] - losses[0.0, seed] for seed in SEEDS) / len(SEEDS)
    found = next(one for one in result["comparisons"] if one["metric"] == "held_out_loss")
    assert found["difference"] == pytest.approx(-0.1)
    assert of_arms == pytest.approx(found["difference"])
    trained = next(one for one in result["comparisons"] if one["metric"] == "train_clean_loss")
    assert trained["difference"] == pytest.approx(-0.1)


def test_the_terminal_and_the_page_show_that_statistic(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = Fields(result, "study.json")
    study = StudyResult.read(fields)
    display = Display(Plan(tmp_path, (0.0, 5.0), SEEDS), lambda: study)
    for arm in result["arms"]:
        display.ended(SimpleNamespace(alpha=arm["alpha"], seed=arm["seed"]), "complete", None)  # type: ignore[arg-type]
    display.summary(study, tmp_path / "study.json", tmp_path / "report.html")
    printed = capsys.readouterr().out
    assert "alpha 0, seed 0: done in 1 s, held-out loss 2.0000" in printed
    assert "alpha 5, seed 0: done in 1 s, held-out loss 1.9000" in printed
    assert "-0.1" in printed
    read = [Result("study.json", "0", "study", "r", fields, Fields(result["provenance"], "study.json"))]
    inputs = Inputs(read, [], [study])
    section = arm_table(inputs)
    assert section is not None
    (table,) = section.blocks
    place = table.columns.index("held-out loss")  # type: ignore[union-attr]
    shown = {row[0]: float(row[place]) for row in table.rows}  # type: ignore[union-attr]
    assert shown["alpha 5, seed 0"] - shown["alpha 0, seed 0"] == pytest.approx(-0.1)
    page = summary(inputs)
    assert page is not None
    assert "-0.1" in str(page.blocks)
