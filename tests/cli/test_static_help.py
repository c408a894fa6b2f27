"""Help that comes at once and tells the truth."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from lightning_neft import __version__
from lightning_neft.cli.help import VERBS, static_help
from lightning_neft.cli.main import main

HEAVY = ("torch", "lightning", "transformers", "jsonargparse", "peft", "datasets", "numpy")


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["--version"], ["fit", "--help"], ["predict", "-h"]])
def test_help_imports_nothing_heavy_and_comes_at_once(args):
    code = (
        "import sys; from lightning_neft.cli.main import main; code = main(sys.argv[1:]);"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; assert not heavy, heavy; sys.exit(code)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 2  # importing Lightning alone takes longer than that
    assert "lightning_neft" in done.stdout


def test_importing_the_package_imports_nothing_heavy():
    code = f"import lightning_neft, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_program_lists_its_verbs_and_version(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {verb}\s+\S", printed, re.MULTILINE) for verb in VERBS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lightning_neft {__version__}\n"


def test_every_option_that_help_names_is_one_of_the_parser():
    from lightning_neft.cli.program import Program, _known_keys

    known = []

    class Looking(Program):
        def parse_arguments(self, parser, args):
            known.append(_known_keys(parser))
            raise StopIteration

    with pytest.raises(StopIteration):
        Looking("fit", [])
    named = {
        option for verb in VERBS for option in re.findall(r"^  --([\w.]+)", static_help([verb, "--help"]), re.MULTILINE)
    }
    assert {"neftune.alpha", "model.base", "data.source", "trainer.max_epochs"} <= named
    problems = {option: known[0].problem(option) for option in named - {"config", "print_config"}}
    assert not {option: problem for option, problem in problems.items() if problem}


@pytest.mark.slow
def test_the_examples_of_the_help_parse(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for verb in VERBS:
        for example in re.findall(r"^  lightning_neft (\w+ --config .*)$", static_help([verb, "--help"]), re.MULTILINE):
            assert main([*example.split(), "--print_config"]) == 0, example
    assert "neftune" in capsys.readouterr().out


@pytest.mark.slow
def test_the_full_help_lists_what_the_short_one_leaves_out(capsys):
    assert main(["fit", "--help-all"]) == 0
    assert "--trainer.accelerator" in capsys.readouterr().out
    assert main(["fit", "--neftune.help"]) == 0
    assert "--neftune.warmup" in capsys.readouterr().out
    assert main(["fit", "--model.lora.help"]) == 0
    assert "--model.lora.dropout" in capsys.readouterr().out
