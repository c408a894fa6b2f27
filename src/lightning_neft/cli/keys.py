"""Find misspelt keys on the command line and in config files, all of them at once, with the names nearest to them.

jsonargparse stops at the first one, does not say in which file it is, and lets some pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import yaml

from lightning_neft.errors import ConfigError

__all__ = ["KnownKeys", "check_keys"]

# Options of the parser itself.
_OWN = ("help", "config", "print_config")


class KnownKeys:
    """The keys that a config may have.

    Args:
        leaves: All keys with a value, in dotted form, such as `trainer.max_epochs`. What is below a leaf is not looked at.
        linked: Keys that are not given but taken from another one: name of the key to name of the other.
    """

    def __init__(self, leaves: Sequence[str], linked: Mapping[str, str]) -> None:
        self.leaves = set(leaves)
        self.linked = linked
        self.groups = {".".join(parts[:n]) for key in leaves for parts in [key.split(".")] for n in range(1, len(parts))}

    def problem(self, key: str) -> str | None:
        """Return what is wrong with a dotted key, or None."""
        parts = key.split(".")
        for n in range(1, len(parts) + 1):
            prefix = ".".join(parts[:n])
            if prefix in self.linked:
                return f"{prefix} is taken from {self.linked[prefix]}; give that"
            if prefix in self.groups:
                continue
            if prefix in self.leaves:
                return None
            near = self._nearest(prefix)
            return f"unknown key {prefix}" + (f"; did you mean {near}?" if near else "; --help-all lists all keys")
        return None

    def _nearest(self, key: str) -> str | None:
        section, _, name = key.rpartition(".")
        everything = self.leaves | self.groups
        siblings = {known.rpartition(".")[2]: known for known in everything if known.rpartition(".")[0] == section}
        if near := get_close_matches(name, siblings, n=1):
            return siblings[near[0]]
        # Right name, wrong section; or a misspelt section.
        elsewhere = sorted(known for known in self.leaves if known.rpartition(".")[2] == name)
        return elsewhere[0] if elsewhere else None


def check_keys(known: KnownKeys, args: Sequence[str], files: Sequence[Path]) -> None:
    """Check the keys of the command line and of all config files.

    Raises:
        ConfigError: If any is unknown, or if a file is not a YAML mapping. One message lists all that is wrong.
    """
    problems = list(_problems_of_args(known, args))
    for file in files:
        problems += _problems_of_file(known, file)
    if problems:
        raise ConfigError(" | ".join(problems))


def _problems_of_args(known: KnownKeys, args: Sequence[str]) -> Iterator[str]:
    for argument in args:
        if not argument.startswith("--"):
            continue
        key = argument[2:].partition("=")[0].removesuffix("+")
        if key not in _OWN and (problem := known.problem(key)):
            yield f"--{key}: {problem}"


def _problems_of_file(known: KnownKeys, file: Path) -> Iterator[str]:
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        yield f"{file}{line}: not valid YAML: {error.problem}"
        return
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        yield f"{file}: cannot be read as YAML: {' '.join(str(error).split())}"
        return
    if root is None:  # an empty file, or nothing but comments
        return
    if not isinstance(root, yaml.MappingNode):
        yield f"{file}: expected a mapping of sections such as trainer, model, data; got {root.id}"
        return
    yield from _problems_of_mapping(known, root, "", file)


def _problems_of_mapping(known: KnownKeys, mapping: yaml.MappingNode, section: str, file: Path) -> Iterator[str]:
    seen = set()
    for key_node, value in mapping.value:
        key = f"{section}{key_node.value}"
        where = f"{file}, line {key_node.start_mark.line + 1}"
        if key in seen:
            yield f"{where}: {key} is given twice"
        seen.add(key)
        if problem := known.problem(key):
            yield f"{where}: {problem}"
        elif key in known.groups:
            if isinstance(value, yaml.MappingNode):
                yield from _problems_of_mapping(known, value, f"{key}.", file)
            elif key not in known.leaves:
                yield f"{where}: {key} is a section with keys of its own, got {getattr(value, 'value', '') or 'nothing'!r}"
