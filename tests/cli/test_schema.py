"""The JSON schema of the config: what the program accepts matches it, and mistakes do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from lightning_neft.cli import keys
from lightning_neft.cli.main import main
from lightning_neft.cli.process import quiet
from lightning_neft.cli.schema import config_schema
from lightning_neft.cli.task import MODELS
from lightning_neft.hub.base_models import base_models
from lightning_neft.recipes.recipe import find_recipe, recipe_names, recipes_folder
from pages import ROOT

BUNDLED = recipes_folder() / "neft.schema.json"
# Of the texts and types in the bundled schema, which was written with what CI runs.
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
)
WRITTEN_WITH = ("jsonargparse", "lightning", "docstring_parser")


class Core(yaml.SafeLoader):
    """Reads YAML as editors do, whose dates are texts."""


Core.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    with quiet():
        return config_schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def problems(validator: Draft202012Validator, text: str) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(yaml.load(text, Core))]


def dotted(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys of a schema as `keys.txt` has them: with sections that may be null, and entries of lists as `[]`."""
    for name, value in node["properties"].items():
        key = f"{prefix}{name}"
        references = [one["$ref"] for one in value.get("anyOf", []) if "$ref" in one]
        section = schema["$defs"][references[0].rpartition("/")[2]] if len(references) == 1 else value
        is_section = "properties" in section and key != "card"
        if not is_section or section is not value:
            yield key
        if is_section:
            yield from dotted(schema, section, f"{key}.")
        for one in value.get("anyOf", []):
            if "$ref" in one.get("items", {}):
                entry = schema["$defs"][one["items"]["$ref"].rpartition("/")[2]]
                # Loggers and callbacks are of any class.
                yield from dotted(schema, entry, f"{key}[].") if "properties" in entry else ()


def test_its_keys_are_those_of_the_program(schema: dict[str, Any]) -> None:
    # The command line alone has --config.
    assert sorted(dotted(schema, schema)) == [key for key in keys.listed_keys() if key != "config"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_matches_and_names_the_schema(name: str, validator: Draft202012Validator) -> None:
    path = find_recipe(name)
    text = path.read_text(encoding="utf-8")
    assert problems(validator, text) == []
    assert (path.parent / text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")).resolve() == BUNDLED


@pytest.mark.parametrize("task", MODELS)
def test_a_printed_config_matches(
    task: str, validator: Draft202012Validator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", f"--task={task}", "--model.lora.r=4", "--print_config"]) == 0
    assert problems(validator, capsys.readouterr().out) == []


@pytest.mark.parametrize(
    "text",
    [
        "neftune: null",
        "neftune: {length: true, target: [a, b]}",
        "model: {lora: null, gradient_checkpointing: auto, num_labels: 3}",
        "trainer: {callbacks: [{class_path: my_callbacks.EarlyNoise, init_args: {anything: 1}}]}",
        "trainer: {callbacks: lightning.pytorch.callbacks.RichModelSummary, strategy: ddp, devices: [0, 1]}",
        "trainer: {max_time: {hours: 2}, precision: 32}",
    ],
)
def test_what_the_program_accepts_matches(text: str, validator: Draft202012Validator) -> None:
    assert problems(validator, text) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("neftun: {alpha: 5}", "$: Additional properties are not allowed ('neftun' was unexpected)"),
        ("model: {learning_rat: 1.0e-4}", "$.model: Additional properties are not allowed"),
        ("neftune: {alfa: 5}", "$.neftune: "),
        ("model: {lora: {rank: 5}}", "$.model.lora: "),
        ("data: {tokenizer: tiny}", "$.data: Additional properties are not allowed ('tokenizer' was unexpected)"),
        ("data: {batch_size: many}", "$.data.batch_size: 'many' is not of type 'integer'"),
        ("neftune: 5", "$.neftune: "),
        ("trainer: [max_epochs]", "$.trainer: ['max_epochs'] is not of type 'object'"),
        ("task: causal", "$.task: 'causal' is not one of ['causal_lm', 'seq2seq_lm', 'sequence_classification']"),
        ("neftune: {scope: answers}", "$.neftune: "),
        ("trainer: {precision: bf16-mixd}", "$.trainer.precision: "),
        ("trainer: {callbacks: [{class_pth: my.Own}]}", "$.trainer.callbacks: "),
        ("card: {model: lama}", "$.card: "),
        ("$schema: neft.schema.json", "$: Additional properties are not allowed ('$schema' was unexpected)"),
    ],
)
def test_a_mistake_does_not_match(text: str, place: str, validator: Draft202012Validator) -> None:
    (problem,) = problems(validator, text)
    assert problem.startswith(place)


def test_a_card_has_a_known_model_and_nothing_else(schema: dict[str, Any], validator: Draft202012Validator) -> None:
    assert schema["$defs"]["Card"]["properties"]["model"]["enum"] == [*base_models()]
    text = find_recipe("quickstart").read_text(encoding="utf-8")
    for old, new in (("model: tiny", "model: tinny"), ("kind: executed", "kind: run"), ("gated:", "gatd:")):
        assert old in text
        assert [problem.partition(":")[0] for problem in problems(validator, text.replace(old, new, 1))] == ["$.card"]


def test_every_key_of_ours_has_a_description(schema: dict[str, Any]) -> None:
    for section in ("model", "data"):
        missing = [
            name for name, key in schema["properties"][section]["properties"].items() if "description" not in key
        ]
        assert missing == []


def test_null_comes_last_for_the_messages_of_editors(schema: dict[str, Any]) -> None:
    assert schema["properties"]["neftune"]["anyOf"] == [{"$ref": "#/$defs/NoiseOptions"}, {"type": "null"}]


@pytest.mark.skipif(
    any(version(name) != PINNED[name] for name in WRITTEN_WITH), reason="the schema is that of other versions"
)
def test_the_bundled_schema_is_what_the_program_prints() -> None:
    """Run `lightning_neft schema > recipes/neft.schema.json` after a change of the options."""
    done = subprocess.run(
        [sys.executable, "-m", "lightning_neft", "schema"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads(BUNDLED.read_text(encoding="utf-8"))
