"""Every bundled recipe, found by a glob so that none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import WITHOUT_TRAINING, Program
from lightning_neft.data.catalogue import find_entry
from lightning_neft.errors import ConfigError
from lightning_neft.hub.base_models import find_base_model
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.recipes.recipe import Recipe, load_recipe, load_recipes, recipes_folder

FILES = sorted(recipes_folder().rglob("*.yaml"))
NAMES = [file.relative_to(recipes_folder()).with_suffix("").as_posix() for file in FILES]
# What defines a recipe is written out, whatever the default is.
SUBJECT = {"model.base", "data.source", "neftune.alpha"}
# NEFTune's own pairs (its table of the GPT-4 judge where there is one, else that of the ChatGPT judge; its table of
# QLoRA; Long Is More), written down here once more.
ALPHAS = {
    "llama-2-7b": {"alpaca": 5, "evol-instruct": 5, "sharegpt": 10, "openplatypus": 15, "alpaca-1k-longest": 5},
    "llama-2-7b-chat": {"evol-instruct": 5},
    "llama-2-13b": {"evol-instruct": 5, "alpaca-1k-longest": 3},
    "llama-2-70b": {"evol-instruct": 15},
    "llama-1-7b": {"alpaca": 10, "evol-instruct": 10, "sharegpt": 10, "openplatypus": 15},
    "opt-6.7b": {"alpaca": 15, "evol-instruct": 15, "sharegpt": 15, "openplatypus": 5},
    "mistral-7b": {"alpaca-1k-longest": 3, "guanaco": 5},
    "opt-350m": {"imdb": 5},
}
QLORA_ALPHAS = {
    "llama-2-7b": {"alpaca": 5, "evol-instruct": 15},
    "llama-2-13b": {"alpaca": 15, "evol-instruct": 10},
    "llama-1-30b": {"alpaca": 10},
}


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in load_recipes()}


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value and "class_path" not in value and key != "columns":
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_all_are_loaded(recipes: dict[str, Recipe]) -> None:
    assert sorted(recipes) == sorted(NAMES)


def test_alphas_are_those_of_the_tables(recipes: dict[str, Recipe]) -> None:
    cited = {name: recipe.alpha for name, recipe in recipes.items() if recipe.alpha_source.kind in ("paper", "cited")}
    plain = {f"{model}/{data}": alpha for model, row in ALPHAS.items() for data, alpha in row.items()}
    quantised = {f"{model}/{data}-qlora": alpha for model, row in QLORA_ALPHAS.items() for data, alpha in row.items()}
    assert cited == plain | quantised
    assert [name for name in quantised if recipes[name].method != "qlora"] == []
    assert {recipe.alpha for recipe in recipes.values() if recipe.alpha_source.kind == "default-untested"} == {5}


def test_bf16_rounding_does_not_swallow_the_steps(recipes: dict[str, Recipe]) -> None:
    pure = [recipe for recipe in recipes.values() if recipe.config.get("trainer", {}).get("precision") == "bf16-true"]
    assert len(pure) > 10
    for recipe in pure:
        rate = recipe.config["model"].get("learning_rate", 5e-5)
        weight = (0.02 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))).bfloat16()
        # AdamW's first step is the learning rate itself.
        kept = (weight - rate * torch.ones_like(weight) != weight).float().mean()
        assert kept > 0.2, f"{recipe.name}: at {rate} only {kept:.0%} of the weights move"


@pytest.mark.parametrize("name", NAMES)
def test_program_accepts_it_and_it_repeats_no_default(name: str, tmp_path: Path) -> None:
    with quiet():
        program = Program("fit", ["--config", name, f"--trainer.default_root_dir={tmp_path}", *WITHOUT_TRAINING])
    assert program.config.name == name
    defaults = program.parser.get_defaults()
    adapters = {field.name: field.default for field in fields(LoraOptions)}
    repeated = []
    for key, value in leaves(load_recipe(name).config):
        default = adapters[key.rpartition(".")[2]] if key.startswith("model.lora.") else defaults.get(key)
        if key not in SUBJECT and not key.startswith("neftune.") and value == default:
            repeated.append(key)
    assert repeated == []


@pytest.mark.parametrize("name", NAMES)
def test_card_agrees_with_the_tables_and_the_config(name: str, recipes: dict[str, Recipe]) -> None:
    recipe = recipes[name]
    model, data = find_base_model(recipe.card.model), find_entry(recipe.dataset)
    assert recipe.base == model.hub_id
    assert recipe.card.licences.model == model.licence
    if data is None:
        assert recipe.dataset == "toy"
    else:
        assert recipe.card.licences.data == data.licence
        assert recipe.card.gated == (model.gated or data.gated)
    if "/" in name:
        assert name.partition("/")[0] == recipe.card.model
        assert recipe.config["global_batch_size"] > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_its_command(name: str) -> None:
    head = (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8").partition("card:")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    commands = [line.removeprefix("#").split() for line in head.splitlines() if "lightning_neft fit" in line]
    assert commands[0] == ["lightning_neft", "fit", "--config", name]
    assert head.count("lightning_neft ") >= 2, "an override"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"card": 5}, r"mine.yaml, line \d+: card: got 5, expected a section"),
        ({"neftune": None}, r"mine.yaml: not a recipe: neftune.alpha must be given"),
        ({"data": {}, "model": {}}, r"mine.yaml: not a recipe: model.base, data.source must be given"),
    ],
)
def test_file_that_is_not_a_recipe_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = yaml.safe_load((recipes_folder() / "quickstart.yaml").read_text()) | change
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "mine.yaml")


@pytest.mark.parametrize("card", ["", "card: null\n"])
def test_file_without_a_card_is_only_a_config(card: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{card}neftune: {{alpha: 3}}\n")
    with pytest.raises(ConfigError, match="the section card is missing"):
        load_recipe(tmp_path / "mine.yaml")
    with quiet():
        assert Program("fit", [f"--config={tmp_path}/mine.yaml", *WITHOUT_TRAINING]).config.card is None


def test_program_refuses_a_wrong_card_with_its_line(tmp_path: Path) -> None:
    text = (recipes_folder() / "quickstart.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("gated: false", "gatd: false"))
    with pytest.raises(ConfigError, match=r"mine.yaml, line \d+: card.gatd is not known; did you mean card.gated\?"):
        Program("fit", [f"--config={tmp_path}/mine.yaml", *WITHOUT_TRAINING])
