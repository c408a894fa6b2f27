"""What a fit prints: what it will train, what came out, and the commands for its run."""

from __future__ import annotations

import csv
import json
import logging
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest

from lightning_neft.cli import outcome
from lightning_neft.cli.main import main

ROWS = ["base", "data", "steps", "optimiser", "noise", "seed", "device", "precision", "resumes", "noise-to-signal"]


def block(printed: str) -> dict[str, str]:
    """The rows of what is trained and what came out, in a pipe `name: value`."""
    names = (*ROWS, "run folder", "training loss")
    rows = [line.partition(": ") for line in printed.splitlines()]
    return {name: text for name, _, text in rows if name in names}


def commands(printed: str) -> list[list[str]]:
    after = printed.splitlines()
    if "next:" not in after:
        return []
    return [shlex.split(line) for line in after[after.index("next:") + 1 :] if not line.startswith("  # ")]


def logged(run: Path, key: str) -> dict[int, float]:
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return {int(row["step"]) + 1: float(row[key]) for row in csv.DictReader(file) if row.get(key)}


@pytest.fixture
def fit(short: list[str], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Fits and returns what is printed."""

    def run(*options: str) -> str:
        assert main(["fit", *short, "--samples=0", *options]) == 0
        return capsys.readouterr().out

    return run


def test_the_commands_that_a_fit_names_work_on_its_run(
    folder: Path, fit: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--name=my run", "--model.lora.r=4", "--trainer.accumulate_grad_batches=2"]
    printed = fit(*given, "--trainer.max_steps=1")
    found = block(printed)
    ratio, loss = found.pop("noise-to-signal"), found.pop("training loss")
    assert found == {
        "base": "tiny, LoRA r=4, 40,960 of 1,025,152 parameters",
        "data": "data.json: 4 training samples, 2 for validation",
        "steps": "1 in 1 epoch, 4 rows each (1 device x 2 batches x 2)",
        "optimiser": "adamw_torch_fused, learning rate 0.001, cosine after 3 % warm-up",
        "noise": "alpha 5, length true",
        "seed": "0",
        "device": "cpu",
        "precision": "32-true (tiny is too small to gain from bfloat16)",
        "run folder": "runs/my run/version_0",
    }
    assert re.fullmatch(r"0\.\d+, in 1 logged step", ratio)
    assert re.fullmatch(r"\d+\.\d+ with noise \(step 1\)", loss)
    assert printed.index("run folder: ") < printed.index("after step 1") < printed.index("noise-to-signal: ")
    found_commands = commands(printed)
    assert [words[:2] for words in found_commands] == [
        ["lightning_neft", verb] for verb in ("generate", "export", "study")
    ]
    less = {"generate": ["--max-new-tokens=2"], "study": ["--seeds=1", "--answers=0"]}
    for _, *words in found_commands:
        assert main([*words, *less.get(words[0], [])]) == 0, words
    run = folder / "runs/my run/version_0"
    assert (run / "export/config.json").exists()
    assert json.loads((run / "study/study.json").read_text())["alphas"] == [0, 5, 15]


def test_the_outcome_is_that_of_the_log(folder: Path, fit: Callable[..., str]) -> None:
    printed = fit("--name=x", "--trainer.max_epochs=2", "--clean_loss=3")
    run, found = folder / "runs/x/version_0", block(printed)
    ratios = logged(run, "neft/noise_to_signal")
    assert found["noise-to-signal"] == f"{mean(ratios.values()):.3g}, mean of {len(ratios)} logged steps"
    noisy, clean = logged(run, "train/loss"), logged(run, "train/clean_loss")
    # The pair of the same batch, though later losses were logged.
    assert list(clean) == [3]
    assert list(noisy) == [1, 2, 3, 4]
    expected = f"{noisy[3]:.4f} with noise, {clean[3]:.4f} without noise and dropout (step 3)"
    assert found["training loss"] == expected
    assert noisy[3] != pytest.approx(clean[3], abs=1e-3)


@pytest.mark.parametrize("off", ["--neftune=null", "--neftune.alpha=0"])
def test_without_noise_there_is_one_training_loss(folder: Path, fit: Callable[..., str], off: str) -> None:
    printed = fit(off, "--clean_loss=1")
    found = block(printed)
    assert (found["noise"], found["noise-to-signal"]) == ("off", "none, the noise was off")
    [*_, last] = logged(folder / "runs/run/version_0", "train/loss").values()
    assert found["training loss"] == f"{last:.4f} (step 2)"
    assert "--alphas 0,5,15" in printed


def test_without_validation_there_are_no_validation_losses(fit: Callable[..., str]) -> None:
    printed = fit("--data.val_size=0")
    assert block(printed)["data"] == "data.json: 6 training samples, no validation"
    assert "validation set" not in printed
    assert "mean of 3 logged steps" in block(printed)["noise-to-signal"]
    assert [words[1:3] for words in commands(printed)] == [
        ["generate", "--model"],
        ["export", "--model"],
        ["evaluate", "--memorization"],
    ]


def test_a_resumed_fit_reports_its_own_steps(folder: Path, fit: Callable[..., str]) -> None:
    whole = fit("--name=whole", "--trainer.max_epochs=2")
    fit("--name=half", "--trainer.max_epochs=1")
    last = "runs/half/version_0/checkpoints/last.ckpt"
    printed = fit("--name=rest", "--trainer.max_epochs=2", f"--ckpt_path={last}")
    found, ratios = block(printed), logged(folder / "runs/whole/version_0", "neft/noise_to_signal")
    assert found["resumes"] == f"{last} (step 2)"
    own = mean([ratios[3], ratios[4]])
    assert found["noise-to-signal"] == f"{own:.3g}, mean of 2 logged steps after step 2"
    assert "before fine-tuning" in whole
    # The loss before its first step is not that of the base.
    assert "before fine-tuning" not in printed
    assert "resumed after step 2" in printed

    printed = fit("--name=nothing", "--trainer.max_epochs=1", f"--ckpt_path={last}")
    assert not {"noise-to-signal", "training loss"} & block(printed).keys()
    assert "after step 2" in printed


def test_a_classifier_is_evaluated_instead_of_asked(folder: Path, fit: Callable[..., str]) -> None:
    texts = [{"text": f"I {word} it, {number}.", "label": word} for number in range(4) for word in ("like", "hate")]
    (folder / "texts.json").write_text(json.dumps(texts))
    printed = fit("--data.source=texts.json", "--task=sequence_classification", "--trainer.max_steps=2")
    assert [words[1:3] for words in commands(printed)] == [
        ["export", "--model"],
        ["study", "--config"],
        ["evaluate", "--clean-loss"],
    ]
    assert "accuracy" in printed


def test_the_study_of_a_run_has_its_alpha_and_its_scale(fit: Callable[..., str]) -> None:
    assert "--alphas 0,5,10,15 " in fit("--neftune.alpha=10", "--trainer.max_steps=1")
    printed = fit("--neftune.alpha=2", "--neftune.scale=relative", "--trainer.max_steps=1")
    assert "--alphas 0,2 " in printed
    assert "6 runs like this one" in printed


def test_without_the_extra_no_study_is_named(fit: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "find_spec", lambda name: None)
    printed = fit("--trainer.max_steps=1")
    assert [words[1:3] for words in commands(printed)][-1] == ["evaluate", "--clean-loss"]


def test_the_block_names_the_options_of_noise_and_optimiser(fit: Callable[..., str]) -> None:
    noise = "alpha=5 scale=relative reference_norm=2 schedule=linear warmup=0.5 exclude=special scope=prompt"
    printed = fit(
        *(f"--neftune.{option}" for option in noise.split()),
        *("--model.optimizer=torch.optim.SGD", "--model.lr_scheduler=constant", "--seed_everything=7"),
        *("--trainer.max_steps=3", "--trainer.log_every_n_steps=50"),
    )
    found = block(printed)
    assert found["steps"] == "2 in 1 epoch, 2 rows each"
    assert found["noise"] == (
        "alpha 5, length true, scope prompt, scale relative, reference_norm 2.0, schedule linear, warmup 0.5, "
        "exclude special"
    )
    assert found["optimiser"] == "SGD, learning rate 0.001, constant"
    assert found["seed"] == "7"
    assert found["noise-to-signal"] == "not measured, no step was logged (trainer.log_every_n_steps=50)"


@pytest.mark.parametrize(("given", "is_shown"), [([], False), (["--trainer.enable_model_summary=true"], True)])
def test_lightnings_own_messages_are_left_to_those_who_ask(
    short: list[str],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    is_shown: bool,
) -> None:
    options = [option for option in short if "enable_model_summary" not in option]
    # Lightning decides at its import whether its messages go on to the handlers of the root.
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level("INFO", logger=name)
    assert main(["fit", *options, "--samples=0", "--trainer.max_steps=1", *given]) == 0
    printed = "\n".join([capsys.readouterr().out, *caplog.messages])
    assert ("held_out_loss" in printed and "Trainable params" in printed) == is_shown
    assert not re.search(r"[GT]PU available|Seed set|Automatic Mixed", printed)
    assert "`max_steps=1` reached" in printed


def test_a_fit_that_saves_nothing_says_so_and_names_no_commands(fit: Callable[..., str]) -> None:
    printed = fit("--neftune=null", "--trainer.fast_dev_run=true")
    rows = block(printed)
    assert rows["steps"] == "1 in 1 epoch, 2 rows each"
    assert (rows["noise"], rows["run folder"]) == ("off", "none: nothing is saved")
    assert commands(printed) == []
