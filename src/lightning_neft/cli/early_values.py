"""Refuse values of a wrong type or name before the imports of a run, by the JSON schema of the config."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union

import yaml
from jsonargparse import ArgumentParser

from lightning_neft.cli.config_files import PARSER_MODE
from lightning_neft.cli.errors import explain_argument_error
from lightning_neft.common.config_text import compose_config
from lightning_neft.errors import ConfigError
from lightning_neft.recipes.recipe import recipes_folder

__all__ = ["check_early_values", "simple_types"]

# These are checked with messages of their own.
_CHECKED_LATER = ("card", "task")
# Left to the parser, which accepts null for the options of a section that may be null.
_NULL = ("", "null", "~")
_TYPES: dict[str, type | None] = {"boolean": bool, "integer": int, "number": float, "string": str, "null": None}


def check_early_values(args: Sequence[str], files: Sequence[Path]) -> None:
    """Check values of options that are numbers, names or texts, on the command line and in config files.

    The parser of a run would refuse the same values. Options that may be classes, sections or lists are left to it.

    Args:
        args: The options of the program; their keys have been checked.
        files: The config files.

    Raises:
        ConfigError: If any value is wrong; one message lists all.
    """
    types = simple_types()
    given = [("", key, value) for key, value in _of_args(args)]
    for file in files:
        root = compose_config(file)
        if isinstance(root, yaml.MappingNode):
            given += [(f"{file}, line {line}: ", key, value) for key, value, line in _of_mapping(root, "")]
    problems = [
        f"{where}{problem}"
        for where, key, value in given
        if key in types
        and value.strip().lower() not in _NULL
        and (problem := _problem(key, value, types[key])) is not None
    ]
    if problems:
        raise ConfigError(" | ".join(problems))


def simple_types() -> dict[str, Any]:
    """Return the types of all options that are a number, a name, a text, true, false or null, by their keys."""
    schema = json.loads((recipes_folder() / "neft.schema.json").read_text(encoding="utf-8"))
    return dict(_types_of(schema, schema, ""))


def _types_of(schema: Any, root: Any, section: str) -> Iterator[tuple[str, Any]]:
    for name, option in schema.get("properties", {}).items():
        if (key := f"{section}{name}") in _CHECKED_LATER:
            continue
        if (found := _type(option)) is not None:
            yield key, found
        # Sections that may be null, such as neftune.
        for part in (option, *option.get("anyOf", ())):
            named = part.get("$ref", "").removeprefix("#/$defs/")
            yield from _types_of(root["$defs"][named] if named else part, root, f"{key}.")


def _type(option: Any) -> Any:
    """Return the type that a schema of an option stands for; None if it is more than a plain value."""
    members: list[Any] = []
    for part in option.get("anyOf", [option]):
        if "enum" in part:
            members.append(Literal[tuple(part["enum"])])
        else:
            names = part.get("type", "object")
            names = names if isinstance(names, list) else [names]
            if not set(names) <= set(_TYPES):
                return None
            members += [_TYPES[name] for name in names]
    return Union[tuple(members)]  # noqa: UP007  (of a number of types that is not known here)


def _of_args(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for argument, after in zip(args, [*args[1:], "--"], strict=False):
        option, equals, value = argument.partition("=")
        if option.startswith("--") and (equals or not after.startswith("--")):
            yield option[2:], value if equals else after


def _of_mapping(mapping: yaml.MappingNode, section: str) -> Iterator[tuple[str, str, int]]:
    for key_node, value in mapping.value:
        key = f"{section}{key_node.value}"
        if isinstance(value, yaml.MappingNode):
            yield from _of_mapping(value, f"{key}.")
        elif isinstance(value, yaml.ScalarNode):
            yield key, value.value, key_node.start_mark.line + 1


def _problem(key: str, value: str, of_type: Any) -> str | None:
    parser = ArgumentParser(exit_on_error=False, parser_mode=PARSER_MODE)
    parser.add_argument(f"--{key}", type=of_type)
    try:
        parser.parse_args([f"--{key}={value}"])
    except ArgumentError as error:
        return explain_argument_error(str(error))
    return None
