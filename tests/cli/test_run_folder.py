"""Runs that start at the same moment under one name: each has a folder of its own, and none writes into another's."""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
import pytest
import torch

from forked import Forked
from lightning_neft.cli.main import main
from lightning_neft.cli.run_folder import own_folder, usual_loggers
from lightning_neft.errors import ConfigError

ROUNDS = 20


def trainer(root: Path) -> L.Trainer:
    loggers = [*usual_loggers(str(root), "run")]
    return L.Trainer(logger=loggers, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)


def claim(root: Path, start: Path, number: int) -> int:
    """Make a folder as soon as the other process has looked up its number too; leave a file in it."""
    mine = trainer(root)
    (start / f"{number}").touch()
    while len(list(start.iterdir())) < 2:
        time.sleep(0.0005)
    with own_folder(mine):
        folders = {logger.log_dir for logger in mine.loggers}
        (Path(folders.pop()) / f"{number}").touch()
    return len(folders)


def test_two_processes_that_find_the_same_number_free_get_two_folders(tmp_path: Path) -> None:
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


def test_only_the_folder_that_a_run_has_made_is_removed_after_a_mistake(tmp_path: Path) -> None:
    late = trainer(tmp_path)
    first = tmp_path / "run/version_0"
    first.mkdir(parents=True)  # by another run, after the late one had looked
    with pytest.raises(ConfigError, match=r"a mistake in .*run/version_1"), own_folder(late):
        raise ConfigError(f"a mistake in {late.log_dir}")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["version_0"]


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/version_0").touch()
    with pytest.raises(FileExistsError), own_folder(trainer(tmp_path)):
        pass


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
