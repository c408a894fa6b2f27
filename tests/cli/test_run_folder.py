"""Runs that start at the same moment under one name: each has a folder of its own, and none writes into another's."""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
import pytest
import torch

from forked import Forked
from lightning_neft.cli.loggers import USUAL
from lightning_neft.cli.main import main
from lightning_neft.cli.run_folder import RunFolder
from lightning_neft.errors import ConfigError

ROUNDS = 20


def run_of(root: Path) -> tuple[RunFolder, L.Trainer]:
    folder = RunFolder(str(root), "run")
    options = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    return folder, L.Trainer(logger=folder.loggers(USUAL, {}), **options)


def claim(root: Path, start: Path, number: int) -> int:
    """Make a folder as soon as the other process has looked up its number too; leave a file in it."""
    mine, trainer = run_of(root)
    (start / f"{number}").touch()
    while len(list(start.iterdir())) < 2:
        time.sleep(0.0005)
    with mine.made(trainer):
        folders = {logger.log_dir for logger in trainer.loggers} | {str(mine.path)}
        (mine.path / f"{number}").touch()
    return len(folders) - 1


def test_two_processes_with_the_same_number_get_two_folders(tmp_path: Path) -> None:
    for round_ in range(ROUNDS):
        start = tmp_path / f"start-{round_}"
        start.mkdir()
        processes = [
            Forked(lambda number=number, start=start: claim(tmp_path, start, number), tmp_path / "log")
            for number in range(2)
        ]
        assert [process.wait() for process in processes] == [0, 0], (tmp_path / "log").read_text()
    versions = {path.name: sorted(file.name for file in path.iterdir()) for path in (tmp_path / "run").iterdir()}
    assert versions.keys() == {f"version_{number}" for number in range(2 * ROUNDS)}
    assert [files for files in versions.values() if len(files) != 1] == []


def test_a_mistake_removes_only_the_folder_of_its_own_run(tmp_path: Path) -> None:
    late, trainer = run_of(tmp_path)
    first = tmp_path / "run/version_0"
    first.mkdir(parents=True)  # by another run, after the late one had looked
    with pytest.raises(ConfigError, match=r"a mistake in .*run/version_1"), late.made(trainer):
        raise ConfigError(f"a mistake in {late.path}")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["version_0"]


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folder, trainer = run_of(tmp_path)
    (tmp_path / "run/version_0").touch()
    with pytest.raises(FileExistsError), folder.made(trainer):
        pass


def kept(folder: Path) -> list[str]:
    """What a run has left in its folder, without its logs."""
    names = ("checkpoints", "config.yaml", "model")
    return sorted(path.name for path in folder.iterdir() if path.name in names)


LOGGER = ["--trainer.logger=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=logs"]


@pytest.mark.parametrize("logger", [["--trainer.logger=false"], LOGGER], ids=["none", "of the user"])
def test_names_and_versions_keep_runs_apart_for_all_loggers(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str], logger: list[str]
) -> None:
    options = ["fit", *short, "--samples=0", "--trainer.max_steps=1", *logger]
    for name in ("a", "a", "b"):
        assert main([*options, f"--name={name}"]) == 0
    found = sorted(str(path.relative_to(folder)) for path in folder.glob("runs/*/*"))
    assert found == ["runs/a/version_0", "runs/a/version_1", "runs/b/version_0"]
    assert [kept(folder / path) for path in found] == [["checkpoints", "config.yaml", "model"]] * 3
    assert len(list(folder.glob("logs/lightning_logs/version_*/metrics.csv"))) == (0 if logger != LOGGER else 3)
    assert "config: runs/b/version_0\n" in capsys.readouterr().out
    assert main([*options[: -len(logger) - 1], *logger, "--name=a", "--ckpt_path=last"]) == 0
    last = torch.load(folder / "runs/a/version_2/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 2


def test_fast_dev_run_saves_nothing_and_names_no_other_run(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *short, "--samples=0"]) == 0
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    capsys.readouterr()
    assert main(["fit", *short, "--samples=0", "--trainer.fast_dev_run=true"]) == 0
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before
    assert "runs/" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_last_checkpoint_is_found_in_a_custom_folder(folder: Path, short: list[str]) -> None:
    options = ["fit", *short, "--samples=0", "--checkpoint.dirpath=mine"]
    assert main([*options, "--trainer.max_steps=1"]) == 0
    assert main([*options, "--ckpt_path=last"]) == 0
    assert torch.load(folder / "mine/last.ckpt", weights_only=True)["global_step"] == 2
    assert not (folder / "mine/last-v1.ckpt").exists()


@pytest.mark.slow
def test_two_fits_at_once_end_as_each_alone(folder: Path, short: list[str]) -> None:
    def fit(seed: int, root: str) -> int:
        return main(["fit", *short, "--samples=0", f"--seed_everything={seed}", f"--trainer.default_root_dir={root}"])

    assert [Forked(lambda seed=seed: fit(seed, "alone"), folder / "log").wait() for seed in (1, 2)] == [0, 0]
    together = [Forked(lambda seed=seed: fit(seed, "together"), folder / "log") for seed in (1, 2)]
    assert [process.wait() for process in together] == [0, 0], (folder / "log").read_text()

    def ends(root: str) -> list[list[float]]:
        paths = (folder / root / "run").glob("version_*/checkpoints/last.ckpt")
        weights = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
        return sorted([value.double().sum().item() for value in one.values()] for one in weights)

    assert len(ends("together")) == 2
    assert ends("together") == ends("alone")
