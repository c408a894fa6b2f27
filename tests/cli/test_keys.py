"""The list of keys by which a misspelt one is refused before the imports of a run."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentError
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from lightning_neft.cli import keys, program
from lightning_neft.cli.early_values import check_early_values, simple_types
from lightning_neft.cli.keys import KnownKeys
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.cli.task import MODELS
from lightning_neft.errors import ConfigError


@pytest.mark.skipif(version("lightning") != keys.LISTED_FOR, reason="the list is that of another Lightning")
def test_the_list_is_that_of_the_parsers_of_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write `keys.txt` anew from what differs here after a change of the options."""
    found: list[KnownKeys] = []

    def keep(known: KnownKeys, *_: object) -> None:
        found.append(known)
        raise ConfigError("enough")

    monkeypatch.setattr(program, "check_keys", keep)
    for task in MODELS:
        with pytest.raises(ConfigError, match="enough"):
            Program("fit", [f"--task={task}"])
    assert keys.listed_keys() == sorted(set().union(*(known.listed for known in found)))


@pytest.mark.parametrize(
    "command",
    [
        "fit --data.sorce=x",
        "preview --data.sorce=x",
        "doctor --data.sorce=x",
        "generate --prompt=a --data.sorce=x",
        "export --ckpt_path=last --output=o --data.sorce=x",
        "study --alphas=0,5 --data.sorce=x",
        "evaluate --clean-loss --data.sorce=x",
    ],
)
def test_a_misspelt_key_is_refused_before_the_imports(command: str, tmp_path: Path) -> None:
    code = (
        "import sys; from lightning_neft.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, *sorted({'torch', 'lightning', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr == "lightning_neft: command line: unknown key data.sorce; did you mean data.source?\n"
    assert done.stdout == "2\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("fit --neftune.alpha five", "neftune.alpha: got 'five', expected float"),
        ("fit --neftune.scope=al", "neftune.scope: got 'al', expected 'all', 'prompt', 'response'"),
        ("preview --data.batch_size=2.5", "data.batch_size: got '2.5', expected int"),
        ("doctor --config quickstart --model.dtype x", "model.dtype: got 'x', expected"),
        ("generate --prompt=a --trainer.max_epochs=x", "trainer.max_epochs: got 'x', expected int or null"),
        ("study --alphas=0,5 --model.lora.r=x", "model.lora.r: got 'x', expected int"),
        ("fit --config c.yaml", "c.yaml, line 2: neftune.scope: got 'al', expected 'all', 'prompt', 'response' | "),
        ("fit --config c.yaml", " | c.yaml, line 4: trainer.max_steps: got 'many', expected int\n"),
    ],
)
def test_a_wrong_value_is_refused_before_the_imports(command: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("neftune:\n  scope: al\n  alpha: 5\ntrainer: {max_steps: many, max_time:}\n")
    code = (
        "import sys; from lightning_neft.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, *sorted({'torch', 'lightning', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "2\n"


def test_what_is_refused_early_the_parser_of_a_run_refuses_too() -> None:
    """The parser knows more, such as the names of classes, and is slow: it is asked about early refusals alone."""
    types = simple_types()
    assert set(types) - {"seed_everything"} <= set(keys.listed_keys())
    assert len(types) > 90
    values = ("", "x", "1", "2.5", "1e-3", "true", "null", "padded", "-1", "[1]", "{a: 1}", "'1'", "2026-01-01", "1:30")
    with quiet():
        parser = Program("fit", []).parser
    for key in types:
        for value in values:
            if _refuses(lambda key=key, value=value: check_early_values([f"--{key}={value}"], [])):
                late = _refuses(lambda key=key, value=value: parser.parse_args([f"--{key}={value}"]))
                assert late, (key, value)


def _refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except (ConfigError, ArgumentError):
        return True
    return False


def test_another_lightning_is_checked_by_its_parser_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keys.check_early(["--data.source=x", "--tiny"])
    with pytest.raises(ConfigError, match=r"trainer\.brand_new"):
        keys.check_early(["--trainer.brand_new=1"])
    monkeypatch.setattr(keys, "LISTED_FOR", "2.6.99")
    keys.check_early(["--trainer.brand_new=1"])
