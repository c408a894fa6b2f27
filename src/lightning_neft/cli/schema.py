"""The verb schema: a JSON schema of the config, for completion and checks in an editor."""

from __future__ import annotations

import datetime
import json
from argparse import Action
from collections.abc import Sequence
from typing import Any

# The public `get_completion_script("jsonschema")` lists the classes that happen to be imported, and fails on one of
# Lightning's. tests/cli/test_schema.py notices a jsonargparse without this class.
from jsonargparse._completions_jsonschema import ParserJsonschema
from typing_extensions import override

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.keys import LINKS
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import WITHOUT_TRAINING, Program
from lightning_neft.cli.task import MODELS
from lightning_neft.hub.base_models import base_models
from lightning_neft.recipes.card import Card

__all__ = ["config_schema", "run"]

Schema = dict[str, Any]


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: schema.
        args: The command line after it.

    Raises:
        ConfigError: If there is an option.
    """
    VerbParser(verb).parse(args)
    with quiet():
        schema = config_schema()
    print(json.dumps(schema, indent=1))


def config_schema() -> Schema:
    """Return the JSON schema (draft 2020-12) of a config file, made from the parsers of all tasks.

    Keys are those that the program accepts, `init_args` of classes are not checked. A number in quotation marks, which
    the program reads as the number, does not match.
    """
    schema, *others = (_of_task(task) for task in MODELS)
    for other in others:
        # Only the class of the model depends on the task.
        model = schema["properties"]["model"]["properties"]
        model |= {key: value for key, value in other["properties"]["model"]["properties"].items() if key not in model}
    schema["title"] = "Config of lightning_neft"
    schema["description"] = "For lightning_neft fit --config FILE, and every other verb with --config."
    return schema


def _of_task(task: str) -> Schema:
    program = _Unbuilt("schema", [f"--task={task}", "--seed_everything=false", *WITHOUT_TRAINING])
    schema: Schema = _ConfigSchema().generate(program.parser)  # type: ignore[no-untyped-call]
    sections = schema["properties"]
    # Not keys of a config: taken from others, and an option that jsonargparse adds where shtab is installed.
    for key in LINKS:
        section, _, name = key.rpartition(".")
        del sections[section]["properties"][name]
    sections.pop("print_shtab", None)
    _tidy(schema)
    return schema


def _tidy(schema: Any) -> None:
    """Remove the key `$schema` of jsonargparse, which the program refuses, and put null last among alternatives.

    An editor that finds no alternative to match reports what the first one expects.
    """
    if isinstance(schema, dict):
        if isinstance(properties := schema.get("properties"), dict):
            properties.pop("$schema", None)
        if "anyOf" in schema:
            schema["anyOf"].sort(key=lambda one: one == {"type": "null"})
        for value in schema.values():
            _tidy(value)
    elif isinstance(schema, list):
        for value in schema:
            _tidy(value)


class _Unbuilt(Program):
    """The program without what its options describe; only its parser is used."""

    @override
    def instantiate_classes(self) -> None:
        pass


class _ConfigSchema(ParserJsonschema):
    """Describes the card by its own type, and accepts any class where one is given by its path."""

    @override
    def action_type_schema(self, action: Action, consts: list[Any] | None) -> Schema:
        if action.dest != "card":
            return super().action_type_schema(action, consts)
        schema: Schema = self.typehint_schema(Card | None, action)
        self.defs["Card"]["properties"]["model"]["enum"] = [*base_models()]
        return schema

    @override
    def typehint_schema(self, typehint: Any, action: Action) -> Schema:
        if typehint is datetime.date:
            return {"type": "string", "format": "date"}
        return super().typehint_schema(typehint, action)

    @override
    def subclass_def(self, class_type: type, action: Action) -> Schema:
        return {"anyOf": [{"type": "string"}, self.unknown_class_path_schema()]}
