"""A disk that fills up during the work: what was written before is whole, and the work resumes from it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bad_input.refusals import line_of, listing, put
from judge_server import JudgeServer, running
from lightning_neft.cli.main import main
from lightning_neft.common.files import write_text

# The thread in which TensorBoard writes may find the disk full too.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
FULL = "No space left on device"
WORDS = ("cat", "dog", "hen", "fox", "owl", "bee")
# A checkpoint of the tiny model has 12 MB, its folder 4.
FIT = (
    "fit --data.source=data.json --data.batch_size=2 --data.val_size=2 --trainer.max_epochs=2 --samples=0 "
    "--trainer.num_sanity_val_steps=0 --trainer.log_every_n_steps=1 --trainer.accelerator=cpu "
    "--trainer.enable_progress_bar=false --trainer.enable_model_summary=false "
    "--checkpoint.every_n_train_steps=1 --checkpoint.save_top_k=0 --checkpoint.monitor=null"
)


@pytest.fixture(autouse=True)
def data(folder: Path) -> None:
    put(folder / "data.json", [{"instruction": f"Say {word}.", "output": f"{word} it is"} for word in WORDS])


def grow(place: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def weights(root: Path) -> dict[str, torch.Tensor]:
    newest = max(root.glob("run/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    state: dict[str, torch.Tensor] = torch.load(newest, weights_only=True)["state_dict"]
    return state


def test_the_last_checkpoint_that_fits_can_be_resumed(
    mounted: Callable[..., Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = mounted("size=20m")
    line = line_of(f"{FIT} --trainer.default_root_dir={place}", capsys)
    assert "checkpoints/last.ckpt" in line
    assert FULL in line
    checkpoints = place / "run/version_0/checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == 1
    grow(place, "100m")
    assert main([*FIT.split(), f"--trainer.default_root_dir={place}", "--ckpt_path=last"]) == 0
    assert main([*FIT.split(), "--trainer.default_root_dir=whole"]) == 0
    found, expected = weights(place), weights(folder / "whole")
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_a_checkpoint_survives_a_model_folder_that_does_not_fit(
    mounted: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = mounted("size=14m")
    line = line_of(f"{FIT} --trainer.max_steps=1 --trainer.default_root_dir={place}", capsys)
    assert FULL in line
    assert "version_0/model" in line
    assert not [name for name in listing(place) if "model" in name]
    assert weights(place)


def test_answers_that_fit_are_kept(
    mounted: Callable[..., Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / "p.json", [{"instruction": f"Say {word}{'!' * n}"} for word in WORDS for n in range(8)])
    generate = "generate --model=tiny --template=alpaca --device=cpu --input=p.json --max-new-tokens=40"
    place = mounted("size=8k")  # two pages: the folder itself takes none
    assert FULL in line_of(f"{generate} --output={place}/o.json", capsys)
    assert list(listing(place)) == ["o.json.partial.jsonl"]
    grow(place, "1m")
    assert main(f"{generate} --output={place}/o.json".split()) == 0
    assert re.search(r"\b48\b", capsys.readouterr().err)
    assert main(f"{generate} --output=whole.json".split()) == 0
    assert (place / "o.json").read_bytes() == (folder / "whole.json").read_bytes()


def test_verdicts_that_fit_are_paid_for_once(
    mounted: Callable[..., Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, length in (("base", 40), ("noisy", 70)):
        rows = [{"instruction": f"Question {n}?", "output": name[0] * length, "generator": name} for n in range(60)]
        put(folder / f"{name}.json", rows)
    place = mounted("size=28k")
    with running(JudgeServer()) as server:
        judge = f"evaluate --judge=cheap --outputs=noisy.json --baseline=base.json --judge-url={server.url} --workers=1"
        line = line_of(f"{judge} --out={place}", capsys)
        assert "verdicts.sqlite" in line
        paid = sum(server.answered.values())
        assert 0 < paid < 120
        grow(place, "1m")
        assert main([*judge.split(), f"--out={place}"]) == 0
        # The one that did not fit.
        assert sum(server.answered.values()) <= 121
    assert json.loads((place / "noisy-win_rate.json").read_text())["n_total"] == 60


def test_a_file_that_is_written_anew_stays_as_it_was(mounted: Callable[..., Path]) -> None:
    place = mounted("size=32k")
    write_text(place / "study.json", "before")
    with pytest.raises(OSError, match=FULL):
        write_text(place / "study.json", "x" * 40_000)
    assert list(listing(place)) == ["study.json"]
    assert (place / "study.json").read_text() == "before"
