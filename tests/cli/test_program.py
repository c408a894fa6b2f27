"""What the program builds from configs, and how a run ends."""

from __future__ import annotations

import csv
import inspect
import os
import signal
from dataclasses import fields
from pathlib import Path

import pytest

from lightning_neft import NEFTune
from lightning_neft.cli.main import main
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.cli.program_options import NoiseOptions
from lightning_neft.models.language_models import CausalLM


def noise_of(args: list[str]) -> NEFTune | None:
    """Return the only NEFTune callback of the Trainer, or None."""
    with quiet():
        program = Program("fit", args)
    found = [callback for callback in program.trainer.callbacks if isinstance(callback, NEFTune)]
    assert len(found) <= 1
    return found[0] if found else None


def test_the_section_has_the_options_of_the_callback() -> None:
    parameters = dict(inspect.signature(NEFTune).parameters)
    del parameters["batch_to_mask"]  # a function cannot be written in a config
    assert {field.name: field.default for field in fields(NoiseOptions)} == {
        name: parameter.default for name, parameter in parameters.items()
    }


@pytest.mark.parametrize(
    ("configs", "args", "alpha"),
    [
        ([], [], 5),
        ([], ["--neftune.alpha=10"], 10),
        ([], ["--neftune", "null"], None),
        (["neftune: null"], [], None),
        (["neftune: null", "neftune: {alpha: 3}"], [], 3),
        (["neftune: {alpha: 3}", "neftune: null"], [], None),
        (["neftune: {alpha: 3}"], ["--neftune=null"], None),
        (["neftune: null"], ["--neftune.alpha=7"], 7),
        # A list of callbacks replaces none of it.
        (["trainer: {callbacks: [{class_path: LearningRateMonitor}]}"], [], 5),
    ],
)
def test_the_last_word_on_the_noise_counts(
    configs: list[str], args: list[str], alpha: float | None, folder: Path
) -> None:
    for number, text in enumerate(configs):
        (folder / f"{number}.yaml").write_text(text)
        args = [*args[:number], f"--config={number}.yaml", *args[number:]]
    noise = noise_of(args)
    assert (None if noise is None else noise.alpha) == alpha


@pytest.mark.parametrize(("text", "length"), [("true", "true"), ("'true'", "true"), ("padded", "padded"), ("64", 64)])
def test_length_true_in_yaml_is_the_word(text: str, length: str | int, folder: Path) -> None:
    (folder / "c.yaml").write_text(f"neftune: {{length: {text}}}")
    with quiet():
        built = Program("fit", ["--config=c.yaml"]).config_init["neftune"].callback()
    assert built.noise.length == length
    assert noise_of([f"--neftune.length={text.strip(chr(39))}"]).noise.length == length


def logged(run: Path) -> list[dict[str, str]]:
    """What a run has logged, without what depends on the machine's speed."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "train/tokens_per_second"} for row in csv.DictReader(file)]


def test_a_run_is_repeated_from_its_saved_config(short: list[str], folder: Path) -> None:
    assert main(["fit", *short, "--name=mine", "--neftune.alpha=3"]) == 0
    first = folder / "runs" / "mine" / "version_0"
    files = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert main(["fit", "--config", str(first / "config.yaml")]) == 0
    second = folder / "runs" / "mine" / "version_1"
    assert (second / "config.yaml").read_text() == (first / "config.yaml").read_text()
    assert logged(second) == logged(first)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == files


def test_ctrl_c_before_the_training_is_one_line(
    short: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: CausalLM) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(CausalLM, "configure_model", interrupt)
    try:
        assert main(["fit", *short]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "nterrupt" in line or line.startswith("lightning_neft")] == [
        "lightning_neft: stopped"
    ]


def test_a_run_ending_between_validations_is_validated(short: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *short, "--trainer.max_steps=1"]) == 0
    assert "after step 1" in capsys.readouterr().out


@pytest.mark.parametrize(("samples", "tables"), [(1, 1), (0, 1)])
def test_the_last_answers_are_shown_once(
    short: list[str], samples: int, tables: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *short, f"--samples={samples}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("answers after step 2") == samples
    assert printed.count("answers to prompts of the validation set") == tables - samples


def test_runs_without_a_logger_have_folders_of_their_own(folder: Path, short: list[str]) -> None:
    once = [*short, "--trainer.max_steps=1", "--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    for _ in range(2):
        assert main(["fit", *once]) == 0
    configs = sorted(str(path.relative_to(folder)) for path in folder.rglob("config.yaml"))
    assert configs == ["runs/run/version_0/config.yaml", "runs/run/version_1/config.yaml"]
