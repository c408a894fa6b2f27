"""An error that the user can fix is one line on stderr, with exit code 2."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_neft.cli.errors import explain
from lightning_neft.cli.help import VERBS
from lightning_neft.cli.main import main
from lightning_neft.errors import DataError


def line_of(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the program and return its own line, the last one on stderr; Lightning's messages may precede it."""
    assert main(args) == 2
    captured = capsys.readouterr()
    *before, line = captured.err.splitlines()
    assert line.startswith("lightning_neft: ")
    assert not any(found.startswith(("lightning_neft: ", "Traceback")) for found in before)
    assert "usage:" not in captured.out
    return line.removeprefix("lightning_neft: ")


# A command line, and what its line has to name.
LINES = [
    ("fti", "fti", "fit"),
    ("--fit", "--fit", "did you mean fit"),
    ("zzz", "zzz", *VERBS),
    ("fit --neftune.alpha --data.source=x", "--neftune.alpha"),
    ("fit --trainer.fast_dev_run", "--trainer.fast_dev_run"),
    ("fit --config", "--config"),
    ("fit --config .", "--config ."),
    ("fit --neftune.alhpa=3", "neftune.alhpa", "neftune.alpha"),
    ("fit --trainer.max_epoch 1", "trainer.max_epoch;", "trainer.max_epochs"),
    # A prefix is no abbreviation.
    ("fit --data.batch 1", "data.batch;", "data.batching"),
    ("fit --traner.max_epochs=1", "traner", "trainer"),
    ("fit --max_epoch=1", "max_epoch;", "trainer.max_epochs"),
    ("fit --alpha=1", "neftune.alpha or model.lora.alpha"),
    ("fit --model.lora.rank=1", "model.lora.rank", "alpha, dora, dropout, init_lora_weights, layers_to_transform"),
    ("fit --data.tokenizer=x", "data.tokenizer", "model.base"),
    ("fit --trainer.max_epochs=abc", "trainer.max_epochs", "abc"),
    ("fit --neftune.alpha=abc", "neftune.alpha", "abc"),
    ("fit --neftune=5", "'5'", "neftune.alpha"),
    ("fit --neftune 5", "'5'", "neftune.alpha"),
    ("fit --neftune_noise_alpha=5", "neftune_noise_alpha", "neftune.alpha"),
    ("fit --noise_alpha=5", "neftune.alpha or model.lora.alpha"),
    ("fit --lora_r 8", "lora_r", "model.lora.r"),
    ("fit --data '{sorce: x}'", "data.sorce", "data.source"),
    ("fit --model.lora.r=x", "model.lora.r", "'x'"),
    ("fit --data.batch_size=0", "data.batch_size", "got 0"),
    ("fit --trainer.logger=CSVLogger --trainer.logger.nam=x", "trainer.logger", "nam of CSVLogger", "name"),
    ("fit --model.optimizer=moun", "'moun'", "did you mean muon?"),
    ("fit --model.optimizer=torch.optim.AdamX", "torch.optim.AdamX", "paged_adamw_8bit", "torch.optim.SGD"),
    ("fit --model.optimizer=torch.nn.Linear", "torch.nn.Linear", "subclass of Optimizer"),
    ("fit --model.optimizer=nowhere.Adam", "nowhere.Adam", "the package nowhere is not installed"),
    ("fit --model.optimizer=torch.optim.AdamW --model.optimizer.lr=1e-3", "optimizer.lr", "model.learning_rate"),
    ("fit --model.optimizer=torch.optim.SGD --model.optimizer.weight_decay=1", "weight_decay", "model.weight_decay"),
    ("fit --model.optimizer=torch.optim.AdamW --model.optimizer.bets=1", "bets of AdamW", "betas"),
    ("fit --model.optimizer=torch.optim.AdamW --model.optimizer.betas=0.9", "model.optimizer.betas", "'0.9'"),
    ("fit --model.optimizer.betas=0.9", "model.optimizer.betas", "--model.optimizer torch.optim.SGD"),
    ("fit --model.lr_scheduler=cosin", "'cosin'", "did you mean cosine?"),
    ("fit --model.lr_scheduler=StepLR", "StepLR needs step_size", "--model.lr_scheduler.step_size"),
    ("fit --trainer.callbacks+=EarlyStopping", "trainer.callbacks", "EarlyStopping", "monitor"),
    ("fit extra", "extra"),
    ("fit --ckpt_path=last", "--ckpt_path last", "runs/run/version_*/checkpoints/last.ckpt", "--name"),
]


@pytest.mark.parametrize("case", LINES, ids=lambda case: case[0])
def test_the_line(
    case: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    command, *names = case
    line = line_of(shlex.split(command), capsys)
    assert [name for name in names if name not in line] == []
    snapshot(line)


# The text of a config, and what its line has to name.
CONFIGS = [
    ("neftune: {alhpa: 3}", "c.yaml, line 1", "neftune.alhpa", "neftune.alpha"),
    ("trainer:\n  max_epoch: 1", "c.yaml, line 2", "trainer.max_epoch;", "trainer.max_epochs"),
    (
        "\ndata: {sorce: x, tokenizer: y}\nneftun: 5",
        "line 2: unknown key data.sorce",
        "line 2: data.tokenizer",
        "line 3",
    ),
    ("trainer: 3", "c.yaml, line 1", "trainer", "'3'"),
    ("model:\n", "c.yaml, line 1", "model"),
    ("data: {source: a}\ndata: {source: b}", "c.yaml, line 2", "data"),
    ("- a", "c.yaml", "seq"),
    ("# nothing", "c.yaml"),
    ("data: [\nmodel: 2", "c.yaml, line 2"),
    ("data:\n\tsource: x", "c.yaml, line 2"),
    ("neftune: {alpha: [1]}", "neftune.alpha", "[1]"),
    ("neftune: 5", "c.yaml, line 1", "'5'", "neftune.alpha"),
    ("model:\n  lora: [8]", "c.yaml, line 2", "model.lora", "a list"),
    ("config: other.yaml", "c.yaml, line 1", "--config"),
    ("model: {base: 12}", "model.base", "12"),
    ("trainer: {logger: {class_path: CSVLogger, init_args: {nam: x}}}", "trainer.logger", "nam of CSVLogger", "name"),
]


@pytest.mark.parametrize("case", CONFIGS, ids=lambda case: case[0])
def test_the_line_about_a_config(
    case: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    text, *names = case
    (folder / "c.yaml").write_text(text)
    line = line_of(["fit", "--config", "c.yaml"], capsys)
    assert [name for name in names if name not in line] == []
    snapshot(line)


def test_a_config_that_is_not_text_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.yaml").write_bytes(b"\xff\xfe\x00")
    assert line_of(["fit", "-c", "c.yaml"], capsys).startswith("c.yaml: cannot be read as YAML: ")


def test_an_unknown_recipe_is_named_with_those_near_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(["fit", "--config", "quickstrat"], capsys)
    start = f"'quickstrat' is neither a file (from {folder}) nor a recipe; recipes: quickstart, "
    assert line.startswith(start)
    assert len(line.removeprefix(start).split(", ")) == 2


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--data.source=nope.json", "nope.json does not exist (looked in "),
        ("--model.base=./nope", "model base './nope': no such folder "),
        ("--neftune.alpha=-1", "alpha=-1.0: "),
        ("--neftune.target=nowhere", "target='nowhere': CausalLM has no module of that name"),
        ("--trainer.val_check_interval=99", "`val_check_interval` (99) must be less than or equal to "),
        ("--trainer.accelerator=abacus", "You selected an invalid accelerator name: `accelerator='abacus'`"),
        ("--trainer.max_epochs=-1", "the schedule cosine needs to know its end: "),
        ("--ckpt_path=nope.ckpt", "--ckpt_path nope.ckpt: no such file (looked in "),
        ("--ckpt_path=data.json", "--ckpt_path data.json is not a checkpoint"),
        ("--checkpoint.monitor=foo", "checkpoint: the run logs no metric monitor='foo'; choose one of val/loss, "),
    ],
)
def test_the_line_about_what_shows_only_later(
    option: str, expected: str, short: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert line_of(["fit", *short, option], capsys).startswith(expected)


def test_a_checkpoint_of_another_model_is_refused(
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    assert main(["fit", *short, "--name=a", "--model.lora.r=2"]) == 0
    capsys.readouterr()
    line = line_of(["validate", *short, "--ckpt_path=runs/a/version_0/checkpoints/last.ckpt"], capsys)
    assert "model.lora" in line
    snapshot(line)


def test_a_run_does_not_resume_with_other_data_order(
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As another batch or another number of devices gives; Lightning's clean-up fails over the error."""
    options = [*short, "--name=a", "--trainer.max_epochs=2"]
    assert main(["fit", *options, "--trainer.max_steps=1"]) == 0
    capsys.readouterr()
    line = line_of(["fit", *options, "--trainer.max_steps=2", "--ckpt_path=last", "--data.batch_size=1"], capsys)
    assert line.startswith("the checkpoint has another order of the training data")


@pytest.mark.parametrize("given", ["last", "runs/a/version_0/checkpoints/last.ckpt"])
def test_a_sharded_checkpoint_needs_a_strategy_that_reads_it(
    given: str, short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = folder / "runs" / "a" / "version_0" / "checkpoints" / "last.ckpt"
    parts.mkdir(parents=True)
    (parts / ".metadata").touch()
    line = line_of(["fit", *short, "--name=a", f"--ckpt_path={given}"], capsys)
    assert re.search(r"last\.ckpt .*SingleDeviceStrategy .*trainer\.strategy and trainer\.devices", line)


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_a_checkpoint_cannot_run_code(short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Malicious()}, "bad.ckpt")
    line = line_of(["validate", *short, "--ckpt_path=bad.ckpt"], capsys)
    assert line.startswith("--ckpt_path bad.ckpt holds more than tensors")
    assert not Path("touched").exists()


def test_a_bug_keeps_its_traceback() -> None:
    assert explain(DataError("a\nb")) == "a b"
    assert explain(ValueError("from somewhere")) is None
    assert explain(KeyError("x")) is None


def test_exit_code_and_streams_of_the_process(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lightning_neft", "fit", "--neftune.alhpa=3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "lightning_neft: command line: unknown key neftune.alhpa; did you mean neftune.alpha?\n"


def test_what_would_steer_a_terminal_is_shown() -> None:
    assert explain(DataError("column a\x1b[2J\nb\u202e of d.json")) == r"column a\x1b[2J b\u202e of d.json"
    assert r"a\nb\x07 cannot be read" in str(explain(FileNotFoundError(2, "No such file", "a\nb\x07")))
