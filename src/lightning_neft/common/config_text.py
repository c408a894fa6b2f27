"""Read the YAML of a config file; errors name file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lightning_neft.errors import ConfigError

__all__ = ["check_text", "compose_config", "construct", "load_config"]

# A hundred times the saved config of a run; the parser would take minutes for a data file given by mistake.
_MOST_BYTES = 1_000_000
# Aliases of aliases can stand for more values than there is memory.
_MOST_VALUES = 100_000
_YAML = "tag:yaml.org,2002:"
# The types of values in a config; no option takes sets, pairs or bytes.
_PLAIN = {"map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge"}
_NULL = ("", "~", "null", "Null", "NULL")
# Numbers that YAML 1.1 reads in a base other than ten: 010 as 8, 1:30 as 90.
_OTHER_BASE = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


def compose_config(path: Path) -> yaml.Node | None:
    """Return the YAML document of a file as nodes, which know their lines; None if it is empty.

    The nodes can be constructed: they have no unknown tags, no aliases to themselves, no invalid dates.

    Raises:
        ConfigError: If it is not YAML, or contains more than plain values.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ConfigError(f"{path}: {size} bytes are too large for a config; give data as data.source")
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if root is not None:
            _Check(path).values(root)
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a config; use fewer levels") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    return root


def check_text(text: str, where: str) -> None:
    """Check a text that may be YAML as `compose_config` does; a text that is not YAML passes.

    Args:
        text: A value of the command line, or the content of a file.
        where: What the text is, for the message.

    Raises:
        ConfigError: If aliases expand to too many values or refer to themselves, or it contains more than plain values.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.ScalarNode):
            _Check(where).values(root)
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply for a config; use fewer levels") from None
    except yaml.YAMLError:
        return


def load_config(path: Path) -> Any:
    """Return the content of a config file, None if it is empty.

    Raises:
        ConfigError: As `compose_config`.
    """
    root = compose_config(path)
    return None if root is None else construct(path, root)


def construct(path: Path | str, node: yaml.Node) -> Any:
    """Return the value of a node.

    Args:
        path: The file, for messages.
        node: The node.

    Raises:
        ConfigError: If it has none, such as a date that does not exist.
    """
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _error(path, node, f"not valid YAML: {error.problem}") from error
    except ValueError as error:  # a date such as 2026-13-45
        raise _error(
            path, node, f"{getattr(node, 'value', '')!r} cannot be read: {error}; quote it if it is a text"
        ) from error
    except (LookupError, AttributeError) as error:  # PyYAML does not check the value after an explicit tag
        raise _error(
            path, node, f"{getattr(node, 'value', '')!r} cannot be read as {_shown(node)}; omit the tag"
        ) from error
    finally:
        loader.dispose()


class _Check:
    """Checks the nodes of a document, and counts their values with aliases expanded."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        # None while a node is being checked.
        self._counts: dict[int, int | None] = {}

    def values(self, node: yaml.Node) -> int:
        """Return the number of values of a node, with aliases expanded."""
        if id(node) in self._counts:
            known = self._counts[id(node)]
            if known is None:
                raise _error(self._path, node, "YAML aliases may not refer to themselves; write the value out")
            return known
        if node.tag.removeprefix(_YAML) not in _PLAIN:
            raise _error(self._path, node, f"the tag {_shown(node)} is not supported; give a plain value")
        self._counts[id(node)] = None
        inner = []
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise _error(self._path, key, "a key must be a text; quote it if it begins with a bracket")
                inner.append(value)
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        else:
            _check_scalar(self._path, node)
            construct(self._path, node)
        count = 1 + sum(map(self.values, inner))
        if count > _MOST_VALUES:
            raise _error(self._path, node, "its aliases expand to too many values; write the values out")
        self._counts[id(node)] = count
        return count


def _check_scalar(path: Path | str, node: yaml.Node) -> None:
    # No name of a file, run or model has such a character, and no text file can contain half of a pair.
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in node.value):
        raise _error(path, node, f"{node.value!r} contains a NUL or half of a surrogate pair; remove it")
    if node.tag == f"{_YAML}null" and node.value not in _NULL:
        raise _error(path, node, f"{node.value!r} cannot be read as !!null; omit the tag, or give null")
    if node.tag in (f"{_YAML}int", f"{_YAML}float") and _OTHER_BASE.fullmatch(node.value):
        read = construct(path, node)
        raise _error(path, node, f"{node.value} is {read} in YAML; write that, or quote it if it is a text or a time")


def _shown(node: yaml.Node) -> str:
    """Return the tag of a node as written in a file."""
    tag: str = node.tag
    return tag.replace(_YAML, "!!")


def _error(path: Path | str, node: yaml.Node, what: str) -> ConfigError:
    return ConfigError(f"{path}, line {node.start_mark.line + 1}: {what}")
