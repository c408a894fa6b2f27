"""What a user can put right is one line on stderr and exit code 2."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_neft.cli.errors import explain
from lightning_neft.cli.help import VERBS
from lightning_neft.cli.main import main
from lightning_neft.errors import DataError


def line_of(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the program and return its own line, with which stderr ends; what Lightning tells may stand before it."""
    assert main(args) == 2
    captured = capsys.readouterr()
    *before, line = captured.err.splitlines()
    assert line.startswith("lightning_neft: ")
    assert not any(found.startswith(("lightning_neft: ", "Traceback")) for found in before)
    assert "usage:" not in captured.out
    return line.removeprefix("lightning_neft: ")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fti"], "unknown verb 'fti'; did you mean fit?"),
        (["--fit"], "unknown verb '--fit'; did you mean fit?"),
        (["zzz"], f"unknown verb 'zzz'; the verbs are {', '.join(VERBS)}"),
        (["fit", "--neftune.alpha", "--data.source=x"], "command line: --neftune.alpha needs a value"),
        (["fit", "--trainer.fast_dev_run"], "command line: --trainer.fast_dev_run needs a value"),
        (["fit", "--config"], "--config needs a value: the path of a YAML file, or the name of a recipe"),
        (["fit", "--config", "."], "--config . is a folder; give a YAML file in it"),
        (["fit", "--neftune.alhpa=3"], "command line: unknown key neftune.alhpa; did you mean neftune.alpha?"),
        (
            ["fit", "--trainer.max_epoch", "1"],
            "command line: unknown key trainer.max_epoch; did you mean trainer.max_epochs?",
        ),
        # A prefix is no abbreviation.
        (["fit", "--data.batch", "1"], "command line: unknown key data.batch; did you mean data.batching?"),
        (["fit", "--traner.max_epochs=1"], "command line: unknown key traner; did you mean trainer?"),
        (["fit", "--max_epoch=1"], "command line: unknown key max_epoch; did you mean trainer.max_epochs?"),
        (["fit", "--alpha=1"], "command line: unknown key alpha; did you mean neftune.alpha or model.lora.alpha?"),
        (
            ["fit", "--model.lora.rank=1"],
            "command line: unknown key model.lora.rank; model.lora has alpha, dora, dropout, r, target_modules",
        ),
        (["fit", "--data.tokenizer=x"], "command line: data.tokenizer is taken from model.base; give that"),
        (["fit", "--trainer.max_epochs=abc"], "trainer.max_epochs: got 'abc', expected int or null"),
        (["fit", "--neftune.alpha=abc"], "neftune.alpha: got 'abc', expected float"),
        (
            ["fit", "--neftune=5"],
            "command line: neftune is a section with keys of its own, got '5'; for a number give neftune.alpha",
        ),
        (
            ["fit", "--neftune", "5"],
            "command line: neftune is a section with keys of its own, got '5'; for a number give neftune.alpha",
        ),
        (
            ["fit", "--neftune_noise_alpha=5"],
            "command line: unknown key neftune_noise_alpha; did you mean neftune.alpha?",
        ),
        (
            ["fit", "--noise_alpha=5"],
            "command line: unknown key noise_alpha; did you mean neftune.alpha or model.lora.alpha?",
        ),
        (["fit", "--lora_r", "8"], "command line: unknown key lora_r; did you mean model.lora.r?"),
        (
            ["fit", "--data", "{sorce: x}"],
            "command line: unknown key data.sorce; did you mean data.source?",
        ),
        (["fit", "--model.lora.r=x"], "model.lora.r: got 'x', expected int"),
        (["fit", "--data.batch_size=0"], "data.batch_size must be 1 or more, got 0"),
        (
            ["fit", "--trainer.logger=CSVLogger", "--trainer.logger.nam=x"],
            "trainer.logger: unknown key nam of CSVLogger; did you mean name?",
        ),
        (
            ["fit", "--trainer.callbacks+=EarlyStopping"],
            "trainer.callbacks: lightning.pytorch.callbacks.EarlyStopping: "
            "the following arguments are required: monitor",
        ),
        (["fit", "extra"], "unrecognized arguments: extra"),
        (
            ["fit", "--ckpt_path=last"],
            "--ckpt_path last: there is no runs/run/version_*/checkpoints/last.ckpt; "
            "start without it, or give a path or --name",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_line(args: list[str], expected: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert line_of(args, capsys) == expected


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("neftune: {alhpa: 3}", "c.yaml, line 1: unknown key neftune.alhpa; did you mean neftune.alpha?"),
        ("trainer:\n  max_epoch: 1", "c.yaml, line 2: unknown key trainer.max_epoch; did you mean trainer.max_epochs?"),
        (
            "\ndata: {sorce: x, tokenizer: y}\nneftun: 5",
            "c.yaml, line 2: unknown key data.sorce; did you mean data.source? | "
            "c.yaml, line 2: data.tokenizer is taken from model.base; give that | "
            "c.yaml, line 3: unknown key neftun; did you mean neftune?",
        ),
        ("trainer: 3", "c.yaml, line 1: trainer is a section with keys of its own, got '3'"),
        ("model:\n", "c.yaml, line 1: model is a section with keys of its own, got 'nothing'"),
        ("data: {source: a}\ndata: {source: b}", "c.yaml, line 2: data is given twice"),
        ("- a", "c.yaml: expected a mapping of sections such as trainer, model, data; got seq"),
        ("# nothing", "c.yaml: holds no keys"),
        ("data: [\nmodel: 2", "c.yaml, line 2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("data:\n\tsource: x", "c.yaml, line 2: not valid YAML: found character '\\t' that cannot start any token"),
        ("neftune: {alpha: [1]}", "neftune.alpha: got '[1]', expected float"),
        (
            "neftune: 5",
            "c.yaml, line 1: neftune is a section with keys of its own, got '5'; for a number give neftune.alpha",
        ),
        (
            "model:\n  lora: [8]",
            "c.yaml, line 2: model.lora is a section with keys of its own, got a list",
        ),
        (
            "config: other.yaml",
            "c.yaml, line 1: config is an option of the command line; give --config there, once for each file",
        ),
        ("model: {base: 12}", "model.base: got '12', expected text"),
        (
            "trainer: {logger: {class_path: CSVLogger, init_args: {nam: x}}}",
            "trainer.logger: unknown key nam of CSVLogger; did you mean name?",
        ),
    ],
)
def test_the_line_about_a_config(yaml: str, expected: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.yaml").write_text(yaml)
    assert line_of(["fit", "--config", "c.yaml"], capsys) == expected


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
        ("--trainer.max_epochs=-1", "the cosine schedule needs to know its end: "),
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
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *short, "--name=a", "--model.lora.r=2"]) == 0
    capsys.readouterr()
    line = line_of(["validate", *short, "--ckpt_path=runs/a/version_0/checkpoints/last.ckpt"], capsys)
    assert line == "the checkpoint holds adapters only; give the model.lora options of its run"


def test_a_run_does_not_go_on_with_another_order_of_its_data(
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As another batch or another number of devices gives; Lightning's clean-up fails over the error."""
    options = [*short, "--name=a", "--trainer.max_epochs=2"]
    assert main(["fit", *options, "--trainer.max_steps=1"]) == 0
    capsys.readouterr()
    line = line_of(["fit", *options, "--trainer.max_steps=2", "--ckpt_path=last", "--data.batch_size=1"], capsys)
    assert line.startswith("the checkpoint was made with another order of the training data")


@pytest.mark.parametrize("given", ["last", "runs/a/version_0/checkpoints/last.ckpt"])
def test_a_sharded_checkpoint_is_refused_where_the_strategy_reads_no_folder(
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
