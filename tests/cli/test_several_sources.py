"""`data.sources` in the program: keys, preview, a fit that resumes, losses of each source, smoke tests and recipes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightning_neft.cli.main import main
from lightning_neft.cli.program import Program
from lightning_neft.evaluation.clean_loss import clean_losses
from lightning_neft.recipes.recipe import load_recipe

SHORT = [
    "--model.base=tiny",
    "--data.batch_size=2",
    "--data.val_size=3",
    "--model.learning_rate=1e-3",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
    "--samples=0",
]


@pytest.fixture
def config(folder: Path) -> str:
    """A config of two sources in two formats."""
    for name, count in (("cats", 12), ("dogs", 8)):
        records = [{"instruction": f"Name {name} {i}.", "output": f"{name} " * (i % 5 + 1)} for i in range(count)]
        if name == "dogs":
            records = [{"prompt": one["instruction"], "completion": one["output"]} for one in records]
        (folder / f"{name}.json").write_text(json.dumps(records))
    (folder / "mix.yaml").write_text(
        "data:\n"
        "  template: vicuna\n"
        "  sources:\n"
        "  - source: cats.json\n"
        "    weight: 3\n"
        "  - source: dogs.json\n"
        "    weight: 1\n"
        "    format: prompt_completion\n"
    )
    return "--config=mix.yaml"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "  sources:\n  - source: a.json\n    wieght: 2\n  - sorce: b.json\n",
            "wrong.yaml, line 4: unknown key wieght",
        ),
        ("  sources:\n    source: a.json\n", "wrong.yaml, line 2: data.sources is a list of sections"),
        ("  sources:\n  - a.json\n", "wrong.yaml, line 3: data.sources is a list of sections"),
        ("  sources:\n  - weight: 1\n", "data.sources: "),
        ("  sources:\n  - source: a.json\n    weight: much\n", "data.sources.weight: got 'much', expected float"),
        ("  soures:\n  - source: a.json\n", "wrong.yaml, line 2: unknown key data.soures; did you mean data.sources?"),
    ],
)
def test_a_wrong_key_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[..., None], text: str, line: str
) -> None:
    (folder / "wrong.yaml").write_text(f"data:\n{text}")
    assert main(["preview", "--config=wrong.yaml", "--model.base=tiny"]) == 2
    (shown,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("lightning_neft: ")]
    assert shown.startswith(f"lightning_neft: {line}")
    snapshot(shown)


def test_the_command_line_takes_a_list_and_entries(folder: Path, config: str) -> None:
    listed = Program("preview", ["--data.sources=[{source: cats.json, samples: 3}]", *SHORT])
    appended = Program("preview", [config, "--data.sources+={source: toy, weight: 2}", *SHORT])
    assert listed.datamodule.options.mixing.samples == (3,)
    assert appended.datamodule.options.mixing.names == ("cats", "dogs", "toy")
    assert main(["preview", "--data.sources=[{source: cats.json, weigth: 3}]"]) == 2


def test_preview_shows_the_share_of_each_source(
    config: str, capsys: pytest.CaptureFixture[str], snapshot: Callable[..., None]
) -> None:
    assert main(["preview", config, *SHORT[:3], "--samples=2"]) == 0
    shown = capsys.readouterr().out
    assert "─ from cats ─" in shown
    assert "─ from dogs ─" in shown
    snapshot(shown.partition("precision of a fit")[0])
    assert main(["preview", config, *SHORT[:3], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cats, dogs = found["sources"]
    assert (cats["name"], cats["weight"], dogs["format"]) == ("cats", 3, "prompt_completion")
    assert cats["samples"] + dogs["samples"] == found["train"]["samples"]
    assert cats["tokens"] + dogs["tokens"] == found["train"]["tokens"]
    assert cats["share_of_tokens"] + dogs["share_of_tokens"] == pytest.approx(1)


@pytest.mark.parametrize("batching", ["length_grouped", "packed"])
def test_a_resumed_fit_ends_with_the_same_weights(config: str, folder: Path, batching: str) -> None:
    options = [config, *SHORT, f"--data.batching={batching}", "--data.max_length=64", "--checkpoint.save_top_k=-1"]
    options += ["--data.template=plain"]  # short samples, so that a row holds several
    options += ["--checkpoint.every_n_train_steps=2", "--data.stopping_strategy=all_exhausted"]
    whole, resumed = folder / "whole", folder / "resumed"
    assert main(["fit", *options, "--trainer.max_steps=5", f"--trainer.default_root_dir={whole}"]) == 0
    checkpoint = next((whole / "mix" / "version_0" / "checkpoints").glob("*2.ckpt"))
    again = ["--trainer.max_steps=5", f"--trainer.default_root_dir={resumed}", f"--ckpt_path={checkpoint}"]
    assert main(["fit", *options, *again]) == 0
    weights = [load_file(root / "mix/version_0/model/model.safetensors") for root in (whole, resumed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_each_source_has_a_validation_loss(config: str, folder: Path) -> None:
    program = Program("fit", [config, *SHORT, "--trainer.max_steps=2", "--trainer.logger=false"])
    program.trainer.fit(program.model, program.datamodule)
    metrics = {name: value.item() for name, value in program.trainer.callback_metrics.items()}
    losses = clean_losses(program.model, program.datamodule, "held_out")
    owners = program.datamodule.prepared.held_out.sources
    total = torch.tensor(losses.per_sample) * torch.tensor(losses.tokens)
    for number, name in enumerate(("cats", "dogs")):
        mine = torch.tensor(owners == number)
        expected = total[mine].sum() / torch.tensor(losses.tokens)[mine].sum()
        assert metrics[f"val/loss/{name}"] == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["val/loss"] == pytest.approx(losses.mean_loss, rel=1e-5)
    assert metrics["val/loss/cats"] != metrics["val/loss/dogs"]


def test_the_loss_of_a_source_can_be_watched(config: str, folder: Path) -> None:
    stop = "--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitor: val/loss/dogs}}]"
    Program("fit", [config, *SHORT, stop])
    assert main(["fit", config, *SHORT, stop.replace("dogs", "hens")]) == 2


def test_the_run_says_what_it_read(config: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", config, *SHORT, "--trainer.max_steps=1"]) == 0
    shown = capsys.readouterr().out
    assert "data: cats, dogs: " in shown
    assert "training samples in an epoch, 6 for validation" in shown
    run = folder / "runs/mix/version_0"
    assert json.loads((run / "model/lightning_neft.json").read_text())["data"] == "cats.json, dogs.json"
    with (run / "metrics.csv").open(newline="") as file:
        assert {"val/loss/cats", "val/loss/dogs"} <= set(csv.DictReader(file).fieldnames or ())
    # The saved config repeats the run.
    saved = Program("fit", [f"--config={run / 'config.yaml'}"])
    assert saved.datamodule.options.mixing.names == ("cats", "dogs")
    assert [path.name for path in saved.input_paths] == ["config.yaml", "cats.json", "dogs.json"]
    assert [one.name for one in saved.inputs()] == ["config.yaml", "cats.json", "dogs.json"]


def test_a_smoke_test_has_the_same_mixture(config: str, folder: Path) -> None:
    program = Program("fit", [config, "--model.base=tiny", "--tiny"])
    options = program.datamodule.options
    assert options.mixing.weights == (3.0, 1.0)
    assert [part.format for part in options.parts] == [None, "prompt_completion"]
    assert all("tiny" in part.source for part in options.parts)


def test_doctor_names_the_sources(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", config, *SHORT, "--json"]) == 0
    assert "the first training batch of data.sources cats, dogs" in capsys.readouterr().out


def test_a_recipe_may_have_several_sources(folder: Path) -> None:
    text = load_recipe("quickstart").path.read_text(encoding="utf-8")
    assert text.count("  source: toy\n") == 1
    (folder / "own.yaml").write_text(text.replace("  source: toy\n", "  sources: [{source: toy}, {source: a.json}]\n"))
    assert load_recipe("own.yaml").dataset == "toy, a.json"


def test_a_separate_validation_file(config: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.source=cats.json", "--data.val_source=dogs.json", *SHORT[:2], *SHORT[3:]]
    assert main(["fit", *options, "--data.template=vicuna", "--trainer.max_steps=1"]) == 0
    assert "data: cats.json: 12 training samples, 8 for validation" in capsys.readouterr().out
    assert main(["preview", *options, "--data.val_size=0.1"]) == 2
    assert "omit one of the two (--data.val_size null)" in capsys.readouterr().err
