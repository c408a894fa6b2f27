"""Secrets in options do not get into the config of a run, nor into what is said about it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from cli.test_errors import line_of
from lightning_neft.cli.main import main

SECRET = "hunter2-of-the-test"
LOGGER = """
from lightning.pytorch.loggers import CSVLogger

class Keyed(CSVLogger):
    def __init__(self, save_dir: str, api_key: str, uri: str = "", name: str = "x"):
        super().__init__(save_dir, name=name)
"""
OPTIONS = [
    "--trainer.logger=keyed_logger_of_a_test.Keyed",
    "--trainer.logger.save_dir=logs",
    f"--trainer.logger.api_key={SECRET}",
    f"--trainer.logger.uri=https://me:{SECRET}@host/?password={SECRET}",
]


@pytest.fixture(autouse=True)
def logger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / "keyed_logger_of_a_test.py").write_text(LOGGER, encoding="utf-8")


def test_a_key_of_a_logger_is_masked_and_has_to_be_given_again(
    folder: Path, short: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *short, *OPTIONS]) == 0
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    (saved,) = folder.rglob("config.yaml")
    assert saved.stat().st_mode & 0o777 == 0o600
    options = yaml.safe_load(saved.read_text(encoding="utf-8"))["trainer"]["logger"]["init_args"]
    assert options == {
        "save_dir": "logs",
        "api_key": "*** (masked)",
        "uri": "https://me:***@host/?password=***",
        "name": "x",
    }
    holding = [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert holding == []
    again = ["fit", f"--config={saved}"]
    assert main(again) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        "lightning_neft: trainer.logger.init_args.api_key, trainer.logger.init_args.uri: the secret was masked when "
        "the config was saved; give it again, or omit the option and set the environment variable that its class reads"
    )
    # A verb that makes no logger needs no key.
    assert main(["preview", f"--config={saved}", "--samples=0"]) == 0
    assert main([*again, f"--trainer.logger.api_key={SECRET}", "--trainer.logger.uri=file", "--print_config"]) == 0


@pytest.mark.parametrize(
    "mistake",
    ["--trainer.logger.nam=x", "--trainer.logger.save_dir=[1]", f"--trainer.logger.api_key=[{SECRET}]"],
)
def test_a_mistake_beside_a_key_does_not_show_it(
    mistake: str, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert SECRET not in line_of(["fit", *short, *OPTIONS, mistake], capsys)
