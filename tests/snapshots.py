"""Expected texts that are wording: in a file for each test module, in the folder `snapshots/` beside it.

A test takes the fixture `snapshot` and calls it with a text. `python -m pytest tests/bad_input --write-snapshots`
writes the files again; read the difference before it is committed.

An entry of a file is named by the test and its parameters, and its text is indented:

    == test_is_refused_in_one_line

    alpha is a word
        c.yaml, line 1: neftune.alpha: got 'five', expected float
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pytest


class Key(NamedTuple):
    """What an entry is named by.

    Attributes:
        test: Name of the test function.
        parameters: As pytest shows them; empty for a test without.
    """

    test: str
    parameters: str

    def __str__(self) -> str:
        return f"{self.test}[{self.parameters}]" if self.parameters else self.test


_TEST, _INDENT = "== ", "    "


def key_of(item: pytest.Function) -> Key:
    """Return the name of the entry of a test."""
    parameters = item.name.removeprefix(item.originalname).removeprefix("[").removesuffix("]")
    return Key(item.originalname, parameters)


def masked(text: str, temporary: Path) -> str:
    """Return a text without the names of the temporary folders of this session."""
    return re.sub(rf"{re.escape(str(temporary))}/[\w-]+", "TMP", text)


class Snapshots:
    """The entries of one module.

    Args:
        module: File of the tests.
        is_writing: Whether texts are kept rather than compared.
    """

    def __init__(self, module: Path, is_writing: bool) -> None:
        self.file = module.parent / "snapshots" / f"{module.stem}.txt"
        self._is_writing = is_writing
        self._command = f"python -m pytest {'/'.join(module.parts[module.parts.index('tests') :])} --write-snapshots"
        self._entries = _parsed(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def compare(self, key: Key, text: str) -> None:
        """Fail unless this is the text of the entry."""
        if self._is_writing:
            self._entries[key] = text
            return
        expected = self._entries.get(key)
        if expected is None:
            pytest.fail(f"{self.file.name} has no entry for {key}; `{self._command}` writes:\n{text}", pytrace=False)
        if text != expected:
            lines = "\n".join(difflib.ndiff(expected.split("\n"), text.split("\n")))
            pytest.fail(f"not the text of {self.file.name}, which `{self._command}` writes:\n{lines}", pytrace=False)

    def finish(self, keys: Collection[Key], is_whole: bool) -> None:
        """Write the file, or fail where it has entries without a test.

        Args:
            keys: The tests of the module that have an entry, in their order.
            is_whole: Whether these are all.
        """
        orphans = [key for key in self._entries if key not in keys] if is_whole else []
        if self._is_writing:
            for key in orphans:
                del self._entries[key]
            order = [key for key in keys if key in self._entries] if is_whole else list(self._entries)
            self.file.parent.mkdir(exist_ok=True)
            texts = {key: self._entries[key] for key in order}
            self.file.write_text(_written(texts, self._command), encoding="utf-8")
        elif orphans:
            names = ", ".join(map(str, orphans))
            pytest.fail(f"no test has {names} of {self.file.name}; `{self._command}` drops them", pytrace=False)


def _written(entries: dict[Key, str], command: str) -> str:
    lines, before = [f"Written by `{command}`."], None
    for (test, parameters), text in entries.items():
        lines += [] if test == before else ["", f"{_TEST}{test}"]
        # An empty line of a text keeps its indent, which tells it from those between the entries.
        lines += ["", *([parameters] if parameters else []), *(f"{_INDENT}{line}" for line in text.split("\n"))]
        before = test
    return "\n".join(lines) + "\n"


def _parsed(text: str) -> dict[Key, str]:
    entries: dict[Key, list[str]] = {}
    test = parameters = ""
    for line in text.split("\n")[1:]:
        if line.startswith(_INDENT):
            entries.setdefault(Key(test, parameters), []).append(line.removeprefix(_INDENT))
        elif line.startswith(_TEST):
            test, parameters = line.removeprefix(_TEST), ""
        elif line:
            parameters = line
    return {key: "\n".join(lines) for key, lines in entries.items()}
