"""The list of keys by which a misspelt one is refused before the imports of a run."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from lightning_neft.cli import keys, program
from lightning_neft.cli.keys import KnownKeys
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


def test_another_lightning_is_checked_by_its_parser_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keys.check_early(["--data.source=x", "--tiny"])
    with pytest.raises(ConfigError, match=r"trainer\.brand_new"):
        keys.check_early(["--trainer.brand_new=1"])
    monkeypatch.setattr(keys, "LISTED_FOR", "2.6.99")
    keys.check_early(["--trainer.brand_new=1"])
