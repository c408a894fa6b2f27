"""Runs that are killed or asked to stop: what they leave behind is whole, and going on from it loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from forked import Forked
from lightning_neft.cli.main import main
from lightning_neft.hub.tiny_models import TINY
from ranks import run_ranks

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]


@pytest.fixture
def options(folder: Path) -> list[str]:
    """A run with dropout, packing, accumulation and several epochs; an optimiser step is three batches."""
    shutil.copytree(TINY, folder / "base")
    config = json.loads((folder / "base/config.json").read_text())
    (folder / "base/config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    words = ("cat", "dog", "hen", "fox", "owl", "bee", "ant", "cow")
    records = [{"instruction": f"Say {w} {n} times.", "output": f"{w} " * n} for w in words for n in range(1, 7)]
    (folder / "data.json").write_text(json.dumps(records))
    return [
        *("--model.base=base", "--model.learning_rate=1e-3", "--seed_everything=3"),
        *("--data.source=data.json", "--data.cache_dir=cache", "--data.val_size=8"),
        *("--data.batching=packed", "--data.max_length=160", "--data.batch_size=2"),
        *("--trainer.max_epochs=3", "--trainer.accumulate_grad_batches=3", "--trainer.num_sanity_val_steps=0"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"),
        *("--trainer.log_every_n_steps=1", "--clean_loss=2", "--samples=0"),
    ]


def fit(options: list[str], name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, whatever that is."""
    log = Path(f"{name}.log")
    log.unlink(missing_ok=True)
    code = Forked(partial(main, ["fit", *options, f"--name={name}", *more]), log).wait(300)
    return subprocess.CompletedProcess(["fit"], code, stderr=log.read_text())


def launch(options: list[str], name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a shell does; it launches the second of its two processes itself."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "lightning_neft", "fit", *options, f"--name={name}", *more],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def killing(batch: int, number: int = signal.SIGKILL) -> list[str]:
    return [
        "--trainer.callbacks+=killing.KillAt",
        f"--trainer.callbacks.batch={batch}",
        f"--trainer.callbacks.number={int(number)}",
    ]


def last_weights(name: str) -> dict[str, torch.Tensor]:
    newest = max(Path("runs", name).glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    return torch.load(newest, weights_only=True)["state_dict"]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


SAVING = ["--checkpoint.every_n_train_steps=1", "--checkpoint.save_top_k=0", "--checkpoint.monitor=null"]


def test_a_run_killed_five_times_ends_as_an_uninterrupted_one(options, folder):
    unbroken = fit(options, "unbroken", *SAVING)
    assert unbroken.returncode == 0, unbroken.stderr[-2000:]
    resume: list[str] = []
    for batch in (4, 8, 13, 16, 19):
        killed = fit(options, "killed", *SAVING, *killing(batch), *resume)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        resume = ["--ckpt_path=last"]
    ended = fit(options, "killed", *SAVING, *resume)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert_same(last_weights("unbroken"), last_weights("killed"))
    # Without the seed for each step this would not hold.
    other = fit([*options, "--seed_everything=4"], "other", *SAVING)
    assert other.returncode == 0
    assert not torch.equal(*(last_weights(name)["model.lm_head.weight"] for name in ("unbroken", "other")))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_saves_its_step_and_resumes_exactly(options, folder, number, code):
    assert fit(options, "unbroken").returncode == 0
    # In the middle of an optimiser step: its gradients must not be lost.
    stopped = fit(options, "stopped", *killing(11, number))
    assert stopped.returncode == code
    (line,) = [line for line in stopped.stderr.splitlines() if line.startswith("lightning_neft: ")]
    path = "runs/stopped/version_0/checkpoints/last.ckpt"
    assert line == f"lightning_neft: stopped by {number.name} after step 5; to resume: --ckpt_path {path}"
    assert "Traceback" not in stopped.stderr
    assert fit(options, "stopped", "--ckpt_path=last").returncode == 0
    assert_same(last_weights("unbroken"), last_weights("stopped"))


def test_two_processes_that_are_killed_go_on_exactly_too(options, folder):
    together = [*options, "--trainer.devices=2", "--trainer.strategy=ddp"]
    run_ranks(partial(main, ["fit", *together, "--name=unbroken", *SAVING]), folder)
    resume: list[str] = []
    # At the end of an epoch, then in the next one: Lightning counts such epochs wrongly by itself.
    for batch in (5, 9):
        killed = launch(together, "killed", *SAVING, *killing(batch), *resume)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        resume = ["--ckpt_path=last"]
    run_ranks(partial(main, ["fit", *together, "--name=killed", *SAVING, *resume]), folder)
    assert_same(last_weights("unbroken"), last_weights("killed"))
