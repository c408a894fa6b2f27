"""Fits that are killed: at 20 random moments, and inside of the saving of a checkpoint."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from forked import Forked
from lightning_neft.cli.main import main
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.study.measure import read_curves
from soak.kills import KILLS, Moments, live

pytestmark = [pytest.mark.soak, pytest.mark.slow]


@pytest.fixture
def options(folder: Path) -> list[str]:
    """The quickstart with dropout, 12 steps of two batches over three epochs, each a checkpoint."""
    shutil.copytree(TINY, folder / "base")
    config = json.loads((folder / "base/config.json").read_text())
    (folder / "base/config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    words = ("cat", "dog", "hen", "fox", "owl", "bee", "ant", "cow", "elk")
    records = [{"instruction": f"Say {word} {n} times.", "output": f"{word} " * n} for word in words for n in (1, 2)]
    (folder / "data.json").write_text(json.dumps(records))
    return [
        *("--config=quickstart", "--model.base=base", "--data.source=data.json", "--data.cache_dir=cache"),
        *("--data.val_size=2", "--data.batch_size=2", "--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=3"),
        *("--checkpoint.every_n_train_steps=1", "--checkpoint.save_top_k=0", "--checkpoint.monitor=null"),
        *("--trainer.log_every_n_steps=1", "--trainer.num_sanity_val_steps=0", "--samples=1", "--clean_loss=2"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"),
    ]


def fit(options: list[str], name: str, prepare: Callable[[], None] = lambda: None) -> int:
    """What a user calls, who goes on from the last checkpoint if there is one."""
    prepare()
    resume = ["--ckpt_path=last"] if list(Path("runs", name).glob("version_*/checkpoints/last.ckpt")) else []
    return main(["fit", *options, f"--name={name}", *resume])


def end(name: str) -> dict[str, Any]:
    """All of the newest checkpoint but its paths, and the model folder of the run that ended."""
    newest = max(Path("runs", name).glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    found = torch.load(newest, weights_only=True)
    run = newest.parents[1]
    kept = {part: found[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")}
    return {**kept, "folder": {path.name: path.read_bytes() for path in (run / "model").iterdir()}}


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}/{number}")
    else:
        assert found == expected, where


def test_killed_fits_end_as_an_uninterrupted_one(options: list[str], folder: Path) -> None:
    # Once before, for the store of tokens and what is loaded late.
    assert Forked(partial(fit, options, "first"), folder / "log").wait() == 0
    began = time.monotonic()
    assert Forked(partial(fit, options, "unbroken"), folder / "log").wait() == 0, (folder / "log").read_text()
    moments = Moments(seed=7, earliest=0, latest=time.monotonic() - began)
    kills = lives = rows_lost = 0
    while kills < KILLS:
        name = f"killed-{lives}"
        kills += live(lambda name=name: Forked(partial(fit, options, name), folder / "log"), moments)
        lives += 1
        assert_same(end(name), end("unbroken"))
        expected, curves = read_curves(Path("runs/unbroken")), read_curves(Path("runs", name))
        assert curves.keys() == expected.keys()
        for metric in expected:
            if metric.startswith("train/tokens"):  # a rate
                continue
            # A row is written just after the checkpoint of its step: a kill between the two loses it, and changes none.
            assert set(map(tuple, curves[metric])) <= set(map(tuple, expected[metric])), metric
            rows_lost += len(expected[metric]) - len(curves[metric])
    print(f"fit: {kills} kills in {lives} runs; all ended as the unbroken one; {rows_lost} logged values lost")


def killed_in_saving(number: int, share: float) -> None:
    """Have the process end in its `number`th saving: after a share of the bytes, or before or after the move."""
    saves = 0
    save, replace = torch.save, Path.replace

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def saving(value: Any, file: Any, **options: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == number and share < 1:
            buffer = io.BytesIO()
            save(value, buffer, **options)
            file.write(buffer.getvalue()[: int(share * buffer.tell())])
            file.flush()
            die()
        save(value, file, **options)

    def moving(path: Path, target: Path) -> Path:
        is_it = saves == number and Path(target).suffix == ".ckpt"
        if is_it and share == 1:
            die()
        moved = replace(path, target)
        if is_it:
            die()
        return moved

    torch.save, Path.replace = saving, moving  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize("seed", range(3))
def test_fits_killed_while_saving_end_as_an_uninterrupted_one(options: list[str], folder: Path, seed: int) -> None:
    assert Forked(partial(fit, options, "unbroken"), folder / "log").wait() == 0, (folder / "log").read_text()
    draw = random.Random(seed)
    # In the first saving of all, in the middle of a file, before its move and after it.
    moments = [(1, draw.random()), (draw.randint(1, 3), draw.random()), (2, 1.0), (draw.randint(1, 2), 2.0)]
    for number, share in moments:
        before = [path.read_bytes() for path in Path("runs/killed").glob("version_*/checkpoints/last.ckpt")]
        process = Forked(partial(fit, options, "killed", partial(killed_in_saving, number, share)), folder / "log")
        assert process.wait() == -signal.SIGKILL, (folder / "log").read_text()[-3000:]
        after = list(Path("runs/killed").glob("version_*/checkpoints/last.ckpt"))
        # Each one can be loaded, and none that was there is gone.
        assert len([torch.load(path, weights_only=True) for path in after]) == len(after) >= len(before)
    assert Forked(partial(fit, options, "killed"), folder / "log").wait() == 0, (folder / "log").read_text()[-3000:]
    assert_same(end("killed"), end("unbroken"))
    print(f"fit: {len(moments)} kills while saving, seed {seed}")
