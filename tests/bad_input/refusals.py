"""What a table of bad input is made of: a command, the files that it reads, and what the one line has to name."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lightning_neft.cli.main import main

# Text, bytes, a value to be written as JSON, or a function that makes something else at a path.
Content = str | bytes | list[Any] | dict[str, Any] | Callable[[Path], None]

RECORDS = [
    {"instruction": f"Say {word}.", "output": f"{word} it is"} for word in ("cat", "dog", "hen", "fox", "owl", "bee")
]
OUTPUTS = [
    {
        "instruction": f"Say {word}.",
        "output": f"{word} {word}",
        "generator": "mine",
        "dataset": "toy",
        "reference": word,
    }
    for word in ("cat", "dog", "hen")
]
ANNOTATIONS = [
    {
        "instruction": f"Say {word}.",
        "output_1": word,
        "generator_1": "base",
        "output_2": f"{word} {word}",
        "generator_2": "mine",
        "annotator": "judge",
        "preference": 2,
    }
    for word in ("cat", "dog", "hen")
]
RESULT = {
    "schema": "lightning_neft.result/1",
    "kind": "capability",
    "label": "mine",
    "tasks": {"arc": {"acc": 0.5}},
    "provenance": {"created": "2026-01-01", "versions": {}, "inputs": [], "settings": {}, "seed": 0},
}
# In each folder, so that a case needs to bring only what is wrong.
GOOD: Mapping[str, Content] = {"data.json": RECORDS, "outputs.json": OUTPUTS, "annotations.json": ANNOTATIONS}

# A run of two steps, if it were allowed to begin.
_SHORT = (
    "--data.source=data.json --data.batch_size=2 --data.val_size=2 --trainer.max_epochs=1 --trainer.accelerator=cpu "
    "--trainer.enable_progress_bar=false --trainer.enable_model_summary=false"
)
FIT = f"fit {_SHORT}"
PREVIEW = "preview --data.val_size=0"
SECONDS = 10
PROGRAM = "lightning_neft: "
# What a snapshot has "..." for.
FOREIGN = (
    r"cannot be loaded: (.+)",
    r"only a part of one: (.*)",
    r"(?:not valid|cannot be read as) YAML: (.*)",
    r"saved dataset: (.*?);",
    r"(?:broken JSON|broken CSV|broken gzip file|broken Parquet file|not JSON in UTF-8) \((.*)\)",
    r", column (\d+)",
    r"adapter_config\.json cannot be read: (maximum.*)",
    r"cannot be used: ((?:Expecting|list).*?);",
    r"'\S+' cannot be read: (.*?);",
    r"name of a repository: (.*)",
    r"address of a judge: (.*?);",
    r"the conversation that begins '.*?': (.*?);",
    r"checkpoint\.filename '.*?': (.*?);",
    r"^model\.lora: (.*)",
    r"^trainer\.\w+: got '.*?', expected (.*)",
    r"^trainer\.\w+: (?:no|lightning)\.[\w.]+: (.*)",
    r"^(Parser key )",
    r"\.([0-9a-f]{16})\.",
    r"torch finds (.*)",
    r"(?:trainer\.devices|data\.num_workers) must be (\d+) or less",
)


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        what: The mistake, in words.
        command: The command line, as for a shell.
        names: What the line has to name, each as a whole word: file, line, key, option, value, the nearest known name.
            How it says so is in the snapshot.
        files: What is in the folder, by name.
        is_foreign: Whether another library words the line, in its own way in each version: it has no snapshot.
    """

    what: str
    command: str
    names: tuple[str, ...] = ()
    files: Mapping[str, Content] = field(default_factory=dict)
    is_foreign: bool = False

    def __str__(self) -> str:
        return self.what


def put(path: Path, content: Content) -> None:
    """Make a file of a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return all that is below a folder, with kind, size and time of change, so that a trace of any kind shows."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            state = path.lstat()
            is_folder = path.is_dir() and not path.is_symlink()
            found[str(path.relative_to(folder))] = (
                (state.st_mode, 0, 0) if is_folder else (state.st_mode, state.st_size, state.st_mtime_ns)
            )
    return found


def line_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that has to be refused, and return the one line that the program says itself."""
    capsys.readouterr()
    assert main(shlex.split(command)) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    own = [line for line in printed.err.splitlines() if line.startswith(PROGRAM)]
    assert len(own) == 1, own
    assert printed.err.endswith(f"{own[0]}\n"), "something is printed after the line"
    assert PROGRAM not in printed.out
    return own[0]


def has_word(line: str, name: str) -> bool:
    """Return whether a line has a name that is not part of a longer word."""
    before, after = (r"(?<!\w)" if name[0].isalnum() else ""), (r"(?!\w)" if name[-1].isalnum() else "")
    return re.search(before + re.escape(name) + after, line) is not None


def without_foreign(line: str) -> str:
    """Return a line without what depends on other libraries, on the version of Python or on chance."""
    for pattern in FOREIGN:
        if found := re.search(pattern, line):
            line = f"{line[: found.start(1)]}...{line[found.end(1) :]}"
    return re.sub(r"\(choose from .*\)", lambda found: found[0].replace("'", ""), line)


def check(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Fail unless a case is refused in one line, soon, with nothing left behind; return the line."""
    for name, content in {**GOOD, **case.files}.items():
        put(folder / name, content)
    before = listing(folder)
    start = time.monotonic()
    line = line_of(case.command, capsys)
    assert time.monotonic() - start < SECONDS
    assert [name for name in case.names if not has_word(line, name)] == [], line
    assert listing(folder) == before
    return line.removeprefix(PROGRAM)
