"""What a fit reports is what it has saved; a run whose numbers are not finite ends with exit code 1 and saves none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_neft.cli.main import main
from lightning_neft.hub.tiny_models import TINY

FIT = ["fit", "--samples=0", "--name=r"]
RUN = Path("runs/r/version_0")


def step_of(path: str | Path) -> int:
    step: int = torch.load(path, weights_only=True)["global_step"]
    return step


def line_of(printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith("lightning_neft: ")]
    return line


# With a callback that is a `Checkpoint` of Lightning too, and comes first. With it Lightning resumes by itself.
@pytest.mark.filterwarnings("ignore:`?.fit.ckpt_path=")
@pytest.mark.parametrize(
    "more", [[], ["--trainer.callbacks=OnExceptionCheckpoint", "--trainer.callbacks.dirpath=errors"]]
)
def test_each_file_is_printed_with_its_step_and_is_of_it(
    more: list[str], folder: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # Two steps an epoch; the rate is so high that the first validation is the best.
    steps = ["--trainer.max_steps=5", "--trainer.max_epochs=-1", "--model.learning_rate=1"]
    assert main([*FIT, *short, *steps, *more]) == 0
    printed = capsys.readouterr().out
    found = {name: (int(step), path) for name, step, path in re.findall(r"^(.+) \(step (\d+)\): (.+)$", printed, re.M)}
    assert found.keys() == {"best checkpoint", "last checkpoint", "model folder"}
    best, last, model = found.values()
    assert (step_of(best[1]), step_of(last[1]), last[0]) == (best[0], 5, 5)
    assert "after step 5" in printed
    assert model[0] == best[0]
    weights, kept = load_file(f"{model[1]}/model.safetensors"), torch.load(best[1], weights_only=True)["state_dict"]
    assert all(torch.equal(value, kept[f"model.{name}"]) for name, value in weights.items())


# The embeddings are far larger than any noise by then.
@pytest.mark.filterwarnings("ignore:NEFTune. rounding to the embedding's dtype")
def test_a_diverging_run_keeps_its_last_finite_checkpoint(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model.learning_rate=1e9", "--model.warmup_ratio=0", "--checkpoint.every_n_train_steps=1"]
    assert main([*FIT, *short, *options, "--trainer.max_epochs=5", "--trainer.gradient_clip_val=null"]) == 1
    line = line_of(capsys.readouterr().err)
    assert re.search(r"loss is .* step \d+; .*model\.learning_rate", line)
    found = re.search(r"checkpoint .*\(step (\d+)\): (.*)$", line)
    assert found is not None, line
    assert step_of(found[2]) == int(found[1])
    for path in RUN.glob("checkpoints/*.ckpt"):
        assert all(value.isfinite().all() for value in torch.load(path, weights_only=True)["state_dict"].values())
    assert not (RUN / "model").exists()


@pytest.mark.parametrize(("sanity", "dtype"), [("-1", "float32"), ("0", "float32"), ("-1", "float16")])
def test_a_non_finite_base_ends_before_or_at_the_first_step(
    folder: Path,
    short: list[str],
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
    sanity: str,
    dtype: str,
) -> None:
    shutil.copytree(TINY, "base")
    weights = load_file("base/model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, "base/model.safetensors", metadata={"format": "pt"})
    options = [f"--trainer.num_sanity_val_steps={sanity}", f"--model.dtype={dtype}"]
    assert main([*FIT, *short, "--model.base=base", *options]) == 1
    line = line_of(capsys.readouterr().err)
    assert ("first step" if sanity == "-1" else "step 1") in line
    assert "(model.base=base)" in line
    snapshot(line)
    assert not list(folder.rglob("*.ckpt"))
    assert main(["export", "--model=base", "--output=out"]) == 2
    assert "not finite in float32 (model.norm.weight)" in capsys.readouterr().err
    assert not Path("out").exists()


def test_nothing_left_to_train_is_reported(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    """From a copy of the checkpoint, in another folder where a run of the same name has files of the same names."""
    for name, seed in (("one", 1), ("other", 2)):
        assert main([*FIT, *short, f"--seed_everything={seed}", f"--trainer.default_root_dir={name}"]) == 0
    shutil.copy("one/r/version_0/checkpoints/last.ckpt", "a.ckpt")
    capsys.readouterr()
    assert main([*FIT, *short, "--trainer.default_root_dir=other", "--ckpt_path=a.ckpt"]) == 0
    printed = capsys.readouterr()
    line = line_of(printed.err)
    assert re.search(r"a\.ckpt .*step 2,.*trainer\.max_epochs=1", line)
    snapshot(line)
    assert "last checkpoint (step 2): a.ckpt" in printed.out
    assert "model folder (step 2): other/r/version_1/model" in printed.out
    weights, kept = load_file("other/r/version_1/model/model.safetensors"), torch.load("a.ckpt", weights_only=True)
    assert all(torch.equal(value, kept["state_dict"][f"model.{name}"]) for name, value in weights.items())


def test_answers_of_several_processes_are_refused(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    assert main(["predict", *short, "--trainer.devices=2", "--trainer.strategy=ddp"]) == 2
    line = line_of(capsys.readouterr().err)
    assert "2 processes; give --trainer.devices=1 --trainer.num_nodes=1" in line
    snapshot(line)
    assert not Path("runs").exists()


def test_a_fit_cannot_resume_from_weights_alone(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    options = [*short, "--checkpoint.save_weights_only=true"]
    assert main([*FIT, *options]) == 0
    capsys.readouterr()
    assert main([*FIT, *options, "--ckpt_path=last"]) == 2
    line = line_of(capsys.readouterr().err)
    assert re.search(r"last\.ckpt .*optimizer_states.*checkpoint\.save_weights_only", line)
    snapshot(line)
    assert main(["validate", *options, "--name=r", "--ckpt_path=last"]) == 0
    assert main([*FIT, *options, "--ckpt_path=best"]) == 2
    assert "checkpoints/last.ckpt" in line_of(capsys.readouterr().err)
