"""Find misspelt keys on the command line and in config files, all of them at once, with the names nearest to them.

jsonargparse stops at the first one, does not say in which file it is, and lets some pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import yaml

from lightning_neft.config_text import compose_config
from lightning_neft.errors import ConfigError

__all__ = ["KnownKeys", "check_keys", "keys_given"]

# Options of the parser itself; help is one of each class too, such as --neftune.help.
_OWN = ("help", "config", "print_config")


class KnownKeys:
    """The keys that a config may have.

    Args:
        leaves: All keys with a value, in dotted form, such as `trainer.max_epochs`. What is below
            a leaf is not looked at.
        linked: Keys that are not given but taken from another one: name of the key to name of the other.
    """

    def __init__(self, leaves: Sequence[str], linked: Mapping[str, str]) -> None:
        self.leaves = set(leaves)
        self.linked = linked
        self.groups = {prefix for key in leaves for prefix in _prefixes(key)[:-1]}

    def problem(self, key: str) -> str | None:
        """Return what is wrong with a dotted key, or None."""
        for prefix in _prefixes(key):
            if prefix in self.linked:
                return f"{prefix} is taken from {self.linked[prefix]}; give that"
            if prefix in self.groups:
                continue
            if prefix in self.leaves:
                return None
            return f"unknown key {prefix}; {self._hint(prefix)}"
        return None

    def _hint(self, key: str) -> str:
        section, _, name = key.rpartition(".")
        siblings = {_name(known): known for known in self.leaves | self.groups if known.rpartition(".")[0] == section}
        if near := get_close_matches(name, siblings, n=1):
            return f"did you mean {siblings[near[0]]}?"
        # Perhaps the section is wrong or missing.
        if near := get_close_matches(name, {_name(known) for known in self.leaves}, n=1, cutoff=0.8):
            elsewhere = sorted(
                (known for known in self.leaves if _name(known) == near[0]), key=lambda k: (k.count("."), k)
            )
            return f"did you mean {' or '.join(elsewhere)}?"
        return f"{section or 'the top level'} has {', '.join(sorted(siblings))}"


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


def keys_given(args: Sequence[str]) -> list[str]:
    """Return the dotted keys of a command line, in their order."""
    return [argument[2:].partition("=")[0].removesuffix("+") for argument in args if argument.startswith("--")]


def _problems_of_args(known: KnownKeys, args: Sequence[str]) -> Iterator[str]:
    for key in keys_given(args):
        if _name(key) not in _OWN and (problem := known.problem(key)):
            yield f"command line: {problem}"


def _problems_of_file(known: KnownKeys, file: Path) -> Iterator[str]:
    try:
        root = compose_config(file)
    except ConfigError as error:
        yield str(error)
        return
    if root is None:
        yield f"{file}: holds no keys"
        return
    if not isinstance(root, yaml.MappingNode):
        yield f"{file}: expected a mapping of sections such as trainer, model, data; got {root.tag.rpartition(':')[2]}"
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
                yield f"{where}: {key} is a section with keys of its own, got {value.value or 'nothing'!r}"


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _prefixes(key: str) -> list[str]:
    """Return the sections that a key is in, from the outermost on, and the key itself."""
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
