"""Help: at once, without the heavy imports, and true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lightning_neft
from lightning_neft.cli.help import VERBS, static_help
from lightning_neft.cli.main import main
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.data.formats.registry import FORMATS
from lightning_neft.data.templates.registry import TEMPLATES

HEAVY = ("torch", "lightning", "transformers", "jsonargparse", "peft", "rich", "numpy", "yaml")
# Values of the options that do not take a 1.
VALUES = {
    "--model.optimizer": "muon",
    "--model.lr_scheduler": "linear",
    "--trainer.logger": "csv",
    "--config": "quickstart",
    "--ckpt_path": "last",
    "--name": "x",
    "--neftune.distribution": "gaussian",
    "--neftune.length": "true",
    "--neftune.exclude": "special",
    "--neftune.scale": "relative",
    "--task": "causal_lm",
    "--model.freeze": "[lm_head]",
    "--data.format": "alpaca",
    "--data.template": "chatml",
    "--data.batching": "packed",
    "--model.gradient_checkpointing": "true",
    "--neftune.scope": "response",
    "--neftune.schedule": "linear",
    "--neftune.warmup": "0.5",
    "--neftune.target": "model.model.embed_tokens",
    "--model.base": "tiny",
    "--data.source": "toy",
    "--data.max_length": "64",
    "--trainer.precision": "bf16-mixed",
}
# Verbs whose options are those of the program; the others test their own.
OF_PROGRAM = ("fit", "validate", "test", "predict")
# Leave before anything is built.
LEAVING = {"--help", "--help-all", "--print_config", "--version"}
# No key of a config: takes no value, see test_tiny.py.
FLAGS = {"--tiny"}


@pytest.mark.parametrize(
    "args",
    [[], ["--help"], ["-h"], ["help"], ["--version"], *([verb, "--help"] for verb in VERBS)],
    ids=lambda args: " ".join(args) or "nothing",
)
def test_help_imports_nothing_heavy_and_is_fast(args: list[str]) -> None:
    code = (
        "import sys, time; start = time.process_time(); from lightning_neft.cli.main import main; "
        f"code = main({args!r}); print(code, time.process_time() - start); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, status, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert text
    code, seconds = status.split()
    assert code == "0"
    assert float(seconds) < 0.5
    assert done.stderr == ""


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("args", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_fits_the_terminal(args: list[str], columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = static_help(args)
    assert text is not None
    long = [line for line in text.splitlines() if len(line) > columns]
    # One word, such as the names of several options, is not broken.
    assert [line for line in long if len(line) > 80] == []
    assert columns < 80 or not long


@pytest.mark.parametrize("verb", VERBS)
def test_examples_stay_commands_where_they_are_broken(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def examples(columns: int) -> list[list[str]]:
        monkeypatch.setenv("COLUMNS", str(columns))
        text = static_help([verb, "--help"])
        assert text is not None
        commands = text.partition("\nexamples\n")[2].partition("\n\n")[0].replace("\\\n", " ").splitlines()
        return [shlex.split(command) for command in commands]

    assert examples(60) == examples(100)
    assert all(command[0] == "lightning_neft" for command in examples(60))


def test_the_help_names_every_format_and_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = " ".join((static_help(["fit", "--help"]) or "").split())
    listed = re.findall(r"--data\.(?:format|template) NAME (.*?), or a custom (?:class|file) such as (\S+);", text)
    assert [custom for _, custom in listed] == ["my_module.MyFormat", "my.jinja"]
    assert [
        set(re.findall(r"\w+", names)) >= set(known)
        for (names, _), known in zip(listed, (FORMATS, TEMPLATES), strict=True)
    ] == [True, True]


def test_the_module_runs_as_the_program_does() -> None:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "lightning_neft", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"lightning_neft {lightning_neft.__version__}\n"
    assert time.perf_counter() - start < 5


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m lightning_neft fit --help | head -n 1"
    done = subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert done.stdout == "lightning_neft fit: fine-tune a model\n"
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.parametrize("verb", OF_PROGRAM)
def test_every_option_of_the_short_help_exists(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    options = set(re.findall(r"(--[a-z][\w.]*(?:-all)?)", text)) - LEAVING - FLAGS
    # --neftune is the section, which takes null; its keys are among the others. Two exclude others of these.
    options = {option for option in options if not option.endswith(".help")}
    options -= {"--neftune", "--data.sources", "--data.val_source"}
    assert len(options) > 20
    args = [f"{option}={VALUES.get(option, 1)}" for option in sorted(options)]
    with quiet():
        program = Program(verb, args)
    for option in options - {"--config"}:
        assert _written(program.config[option[2:]]) in (VALUES.get(option, "1"), "1.0", "quickstart", "true"), option


def _written(value: object) -> str:
    return str(value).lower().replace("'", "")


@pytest.mark.parametrize("verb", OF_PROGRAM)
def test_every_example_of_the_short_help_parses(verb: str, tmp_path: Path) -> None:
    text = static_help([verb, "--help"])
    assert text is not None
    examples = re.findall(
        r"^  lightning_neft (\w+) (.*--config .*)$", text.partition("\nexamples\n")[2], flags=re.MULTILINE
    )
    assert examples
    assert verb in {found for found, _ in examples}
    for found, options in examples:
        assert found in OF_PROGRAM
        args = [argument for argument in options.split() if argument != "my_data.json"]
        args = [f"{argument}=toy" if argument == "--data.source" else argument for argument in args]
        with quiet():
            base = Program(found, [*args, f"--data.cache_dir={tmp_path}"]).config.model.base
        assert Path(base).parent == tmp_path / "tiny" if "--tiny" in args else base == "tiny"


def test_the_full_help_comes_from_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help-all"]) == 0
    text = capsys.readouterr().out
    for option in (
        "--trainer.max_epochs",
        "--model.learning_rate",
        "--data.source",
        "--neftune",
        "--checkpoint.save_top_k",
    ):
        assert option in text
    assert text.startswith("usage: lightning_neft fit")
    assert main(["fit", "--neftune.help"]) == 0
    assert "--neftune.alpha ALPHA" in capsys.readouterr().out
