"""Loggers by name: what they are built with, and a short run of each that is installed, without a server."""

from __future__ import annotations

import csv
import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lightning_neft.cli import loggers
from lightning_neft.cli.loggers import LoggerName, build_loggers, names_of
from lightning_neft.cli.main import main

NAMES: tuple[LoggerName, ...] = get_args(LoggerName)
# Warnings of these packages and of what they import are not ours.
FOREIGN = pytest.mark.filterwarnings("default")


def fit(short: list[str], *options: str) -> None:
    assert main(["fit", *short, "--samples=0", "--trainer.max_steps=2", *options]) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["csv", "tensorboard"]),
        (True, ["csv", "tensorboard"]),
        (False, None),
        ([], None),
        ("csv", ["csv"]),
        (["tensorboard", "csv", "csv"], ["tensorboard", "csv"]),
        (CSVLogger("x"), None),
        ([CSVLogger("x")], None),
    ],
)
def test_names_of_an_option(value: Any, expected: list[str] | None) -> None:
    assert names_of(value) == expected


@pytest.mark.parametrize(("name", "package"), [(name, loggers._PACKAGES[name]) for name in NAMES[2:]])
def test_a_missing_package_is_one_line(
    short: list[str],
    folder: Path,
    name: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    assert main(["fit", *short, f"--trainer.logger=[csv,{name}]"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"lightning_neft: trainer.logger={name} needs {package}: pip install {package}"
    assert not Path("runs").exists()


@pytest.mark.parametrize("option", ["--trainer.logger=wandd", "--trainer.logger=[csv,wandd]"])
def test_a_wrong_name(
    short: list[str], folder: Path, option: str, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    assert main(["fit", *short, option]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(name in line for name in ("trainer.logger", "wandd", "wandb"))
    snapshot(line)


def test_one_of_the_usual_loggers(short: list[str], folder: Path) -> None:
    fit(short, "--trainer.logger=csv", "--name=a")
    run = Path("runs/a/version_0")
    assert (run / "metrics.csv").is_file()
    assert not list(run.glob("events.*"))
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["logger"] == "csv"


def test_the_usual_loggers_are_the_default() -> None:
    built = build_loggers(loggers.USUAL, "runs", "a/b", 3, {})
    assert [type(logger) for logger in built] == [CSVLogger, TensorBoardLogger]
    assert [logger.log_dir for logger in built] == ["runs/a/b/version_3"] * 2


@FOREIGN
def test_wandb_without_a_server(short: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    fit(short, "--trainer.logger=[csv,wandb]", "--name=a")
    wandb.finish()
    (written,) = Path("runs/wandb").glob("offline-run-*/*.wandb")
    found = written.read_bytes()
    for word in ("a/version_0", "alpha=5", "data=data.json", "base=tiny"):
        assert word.encode() in found, word
    # The path of the data is of this machine.
    assert str(folder.parent).encode() not in b"".join(word for word in found.split(b"\n") if b"data=" in word)
    assert Path("runs/a/version_0/metrics.csv").is_file()


@FOREIGN
def test_mlflow_without_a_server(short: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    fit(short, "--trainer.logger=mlflow", "--name=a", "--neftune=null")
    with sqlite3.connect("runs/mlflow.db") as database:
        assert database.execute("select name, status from runs").fetchall() == [("a/version_0", "FINISHED")]
        tags = dict(database.execute("select key, value from tags").fetchall())
        metrics = {key for (key,) in database.execute("select key from metrics").fetchall()}
    assert {key: tags[key] for key in ("base", "data", "alpha", "method")} == {
        "base": "tiny",
        "data": "data.json",
        "alpha": "none",
        "method": "full",
    }
    assert {"train/loss", "val/loss"} <= metrics


@FOREIGN
def test_trackio_without_a_server(short: list[str], folder: Path) -> None:
    # It reads its folder when it is imported.
    trackio = pytest.importorskip("trackio")
    fit(short, "--trainer.logger=trackio", f"--name={folder.name}")
    runs = trackio.Api().runs("lightning_neft")
    assert f"{folder.name}/version_0" in {run.name for run in runs}


@FOREIGN
def test_comet_without_a_server(short: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("comet_ml")
    monkeypatch.setenv("COMET_START_ONLINE", "0")
    fit(short, "--trainer.logger=comet", "--name=a")
    import comet_ml

    comet_ml.end()
    assert len(list(Path("runs/comet").glob("*.zip"))) == 1


def test_other_options_of_a_logger_come_with_its_class(short: list[str], folder: Path) -> None:
    fit(short, *shlex.split("--trainer.logger=CSVLogger --trainer.logger.save_dir=logs --trainer.logger.name=mine"))
    with Path("logs/mine/version_0/metrics.csv").open() as file:
        assert "train/loss" in next(csv.reader(file))
