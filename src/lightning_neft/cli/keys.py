"""Find misspelt keys on the command line and in config files, all at once, each with the nearest known key.

jsonargparse stops at the first one, does not name the file, and accepts some. `check_early` compares with `keys.txt`
before the imports of a run, which take seconds; the parser's own keys are checked afterwards. With a Lightning of
another version than the list, only the second check runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from lightning_neft.cli.config_files import resolve_configs
from lightning_neft.cli.early_values import check_early_values
from lightning_neft.common.config_text import compose_config
from lightning_neft.common.near_names import did_you_mean, nearest
from lightning_neft.errors import ConfigError

__all__ = ["LINKS", "LISTED_FOR", "KnownKeys", "check_early", "check_keys", "keys_given", "listed_keys"]

# Taken from another key: the tokenizer is always the one of the model.
LINKS = {
    "data.tokenizer": "model.base",
    "data.trust_remote_code": "model.trust_remote_code",
    "data.task": "task",
}
# Most keys are arguments of the Trainer of this version.
LISTED_FOR = "2.6.6"

# Options of the parser itself; help is one of each class too, such as --neftune.help.
_OWN = ("help", "config", "print_config")
_NULL = ("null", "~", "")
# Stands before a key of each entry of a list of sections.
_OF_LIST = "[]."


class KnownKeys:
    """The keys that a config may have.

    Args:
        leaves: All keys with a value, in dotted form, such as `trainer.max_epochs`. Keys below a leaf are not checked,
            except those of a list of sections, such as `data.sources[].weight`.
        linked: Keys that take the value of another key, with that key.
    """

    def __init__(self, leaves: Sequence[str], linked: Mapping[str, str]) -> None:
        self.listed = set(leaves)
        self.leaves = {key for key in leaves if _OF_LIST not in key}
        self.linked = linked
        self.lists: dict[str, list[str]] = {}
        for key in sorted(self.listed - self.leaves):
            section, _, name = key.partition(_OF_LIST)
            self.lists.setdefault(section, []).append(name)
        self.groups = {prefix for key in self.leaves for prefix in _prefixes(key)[:-1]}

    def problem(self, key: str) -> str | None:
        """Return what is wrong with a dotted key, or None."""
        for prefix in _prefixes(key):
            if prefix in self.linked:
                return f"{prefix} is taken from {self.linked[prefix]}; give that"
            if prefix in self.groups:
                continue
            if prefix in self.lists and key != prefix:
                return self._problem_of_entry(prefix, key.removeprefix(f"{prefix}."))
            if prefix in self.leaves:
                return None
            return f"unknown key {prefix}; {self._hint(prefix)}"
        return None

    def _problem_of_entry(self, section: str, name: str) -> str | None:
        """Return what is wrong with a key of an entry of a list of sections, or None."""
        known = self.lists[section]
        top = name.partition(".")[0]
        if top in known:
            return None
        hint = did_you_mean(top, known, f"its keys are {', '.join(known)}")
        return f"unknown key {top} in an entry of {section}; {hint}"

    def not_a_list(self, key: str) -> str:
        """Return what is wrong with another value in place of a list of sections."""
        return f"{key} is a list of sections with the keys {', '.join(self.lists[key])}; begin each with '- '"

    def not_a_section(self, key: str, given: str | None) -> str:
        """Return what is wrong with a plain value, or a list (None), in place of a section."""
        # A number is meant for the main option of the section.
        main = {"neftune": "alpha", "model.lora": "r"}.get(key)
        shown = "a list" if given is None else repr(given or "nothing")
        number = f"; for a number give {key}.{main}" if main and given else ""
        return f"{key} is a section with keys, got {shown}{number}"

    def _hint(self, key: str) -> str:
        section, _, name = key.rpartition(".")
        siblings = {_name(known): known for known in self.leaves | self.groups if known.rpartition(".")[0] == section}
        if alike := self._of_its_words(key, with_section=True):
            return f"did you mean {' or '.join(alike)}?"
        if near := nearest(name, siblings):
            return f"did you mean {siblings[near]}?"
        # Perhaps the section is wrong or missing.
        if near := nearest(name, {_name(known) for known in self.leaves}, cutoff=0.8):
            elsewhere = [known for known in self.leaves if _name(known) == near]
            return f"did you mean {' or '.join(sorted(elsewhere, key=_depth))}?"
        if not section and (alike := self._of_its_words(key, with_section=False)):
            return f"did you mean {' or '.join(alike)}?"
        return f"{section or 'the top level'} has {', '.join(sorted(siblings))}"

    def _of_its_words(self, key: str, with_section: bool) -> list[str]:
        """Return the keys whose names consist of words of this one, such as `neftune.alpha` for `neftune_noise_alpha`.

        Args:
            key: The given key; other programs have long names of several words.
            with_section: Whether one of the words must be that of the section.
        """
        given = _words(key)
        found: dict[str, int] = {}
        for known in self.leaves - self.groups:
            section, _, name = known.rpartition(".")
            words = _words(name)
            if words <= given and (not with_section or (given - words) & _words(section)):
                found[known] = len(words)
        most = max(found.values(), default=0)
        return sorted((known for known, count in found.items() if count == most), key=_depth)


def check_keys(known: KnownKeys, args: Sequence[str], files: Sequence[Path]) -> None:
    """Check the keys of the command line and of all config files.

    Raises:
        ConfigError: If any is unknown, or if a file is not a YAML mapping. One message lists all problems.
    """
    problems = list(_problems_of_args(known, args))
    for file in files:
        problems += _problems_of_file(known, file)
    if problems:
        raise ConfigError(" | ".join(problems))


def listed_keys() -> list[str]:
    """Return the keys of all tasks, in alphabetical order."""
    return Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").split()


def check_early(args: Sequence[str]) -> None:
    """Check the keys and plain values of a command line and of its config files without the parser.

    Args:
        args: The options of the program, without those of a verb.

    Raises:
        ConfigError: If a config is missing, a key is unknown, or a value is wrong; one message lists all unknown keys,
            or all wrong values.
    """
    if version("lightning") != LISTED_FOR:
        return
    rest, files = resolve_configs([argument for argument in args if argument.partition("=")[0] != "--tiny"])
    check_keys(KnownKeys(listed_keys(), LINKS), rest, files)
    check_early_values(rest, files)


def keys_given(args: Sequence[str]) -> list[str]:
    """Return the dotted keys of a command line, in their order."""
    return [argument[2:].partition("=")[0].removesuffix("+") for argument in args if argument.startswith("--")]


def _problems_of_args(known: KnownKeys, args: Sequence[str]) -> Iterator[str]:
    for argument, after in zip(args, [*args[1:], "--"], strict=False):
        if not argument.startswith("--"):
            continue
        option, equals, value = argument[2:].partition("=")
        key = option.removesuffix("+")
        if _name(key) in _OWN:
            continue
        if problem := known.problem(key):
            yield f"command line: {problem}"
        elif not equals and after.startswith("--"):
            yield f"command line: --{option} needs a value"
        elif key in known.groups:
            yield from _problems_of_section(known, key, value if equals else after)
        elif key in known.lists:
            yield from _problems_of_written_list(known, key, value if equals else after)


def _problems_of_section(known: KnownKeys, key: str, value: str) -> Iterator[str]:
    """Yield what is wrong with the value of a whole section: a file, or a mapping on the command line."""
    if Path(value).is_file():
        yield from _problems_of_file(known, Path(value), f"{key}.")
    elif value.lstrip().startswith("{"):
        try:
            root = yaml.compose(value, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            return  # the parser reports it
        if isinstance(root, yaml.MappingNode):
            yield from _problems_of_mapping(known, root, f"{key}.", "command line")
    elif not (key in known.leaves and value in _NULL):
        yield f"command line: {known.not_a_section(key, value)}"


def _problems_of_written_list(known: KnownKeys, key: str, value: str) -> Iterator[str]:
    """Yield what is wrong with a list of sections on the command line, or with one entry that is appended."""
    try:
        root = yaml.compose(value, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return  # the parser reports it
    entries = root.value if isinstance(root, yaml.SequenceNode) else [root]
    for entry in entries:
        if isinstance(entry, yaml.MappingNode):
            yield from _problems_of_mapping(known, entry, f"{key}.", "command line")


def _problems_of_file(known: KnownKeys, file: Path, section: str = "") -> Iterator[str]:
    try:
        root = compose_config(file)
    except ConfigError as error:
        yield str(error)
        return
    if root is None:
        yield f"{file}: holds no keys"
        return
    if not isinstance(root, yaml.MappingNode):
        expected = f"the keys of {section[:-1]}" if section else "sections such as trainer, model, data"
        yield f"{file}: expected a mapping of {expected}; got {root.tag.rpartition(':')[2]}"
        return
    yield from _problems_of_mapping(known, root, section, file)


def _problems_of_mapping(known: KnownKeys, mapping: yaml.MappingNode, section: str, file: Path | str) -> Iterator[str]:
    seen = set()
    for key_node, value in mapping.value:
        key = f"{section}{key_node.value}"
        where = f"{file}, line {key_node.start_mark.line + 1}" if isinstance(file, Path) else file
        if key in seen:
            yield f"{where}: {key} is given twice"
        seen.add(key)
        if key in _OWN:
            # The parser would read a file from here without these checks.
            yield f"{where}: {key} is an option of the command line; give --{key} there, once for each file"
        elif problem := known.problem(key):
            yield f"{where}: {problem}"
        elif key in known.groups:
            if isinstance(value, yaml.MappingNode):
                yield from _problems_of_mapping(known, value, f"{key}.", file)
            elif not (key in known.leaves and value.tag.endswith(":null")):
                yield f"{where}: {known.not_a_section(key, value.value if _is_scalar(value) else None)}"
        elif key in known.lists and not value.tag.endswith(":null"):
            if not isinstance(value, yaml.SequenceNode):
                yield f"{where}: {known.not_a_list(key)}"
                continue
            for entry in value.value:
                if isinstance(entry, yaml.MappingNode):
                    yield from _problems_of_mapping(known, entry, f"{key}.", file)
                else:
                    line = f"{file}, line {entry.start_mark.line + 1}" if isinstance(file, Path) else file
                    yield f"{line}: {known.not_a_list(key)}"


def _is_scalar(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _words(key: str) -> set[str]:
    return set(re.split(r"[._-]", key)) - {""}


def _depth(key: str) -> tuple[int, str]:
    return key.count("."), key


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _prefixes(key: str) -> list[str]:
    """Return the sections that a key is in, from the outermost on, and the key itself."""
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
