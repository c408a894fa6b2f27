"""The reference says all: every public name, every error with causes and ways out, the choices of each type."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import get_args

import lightning as L
import pytest

import lightning_neft
from lightning_neft import NEFTune, errors
from lightning_neft.cli.keys import listed_keys
from lightning_neft.data.sources.source import open_source
from lightning_neft.recipes.recipe import load_recipe
from pages import DOCS, extension

API = DOCS / "reference" / "api.md"
_DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:\w+):: (\S+)$", re.MULTILINE)
_TYPE = re.compile(r"^\.\. py:type:: (\S+)\n   :canonical: (.+)$", re.MULTILINE)


def resolve(name: str) -> object:
    """The object of a dotted name."""
    module, _, last = name.rpartition(".")
    return import_module(name) if not module else getattr(import_module(module), last)


def documented(page: Path) -> list[object]:
    """The objects that the directives of a page name; of a whole module, its public ones."""
    found: list[object] = []
    for name in _DIRECTIVE.findall(page.read_text(encoding="utf-8")):
        if name in ("lightning_neft", "lightning_neft.errors"):
            module = import_module(name)
            # `py:module` of the package documents no member; `automodule` of the errors does.
            found += [getattr(module, member) for member in module.__all__] if name.endswith("errors") else []
        else:
            found.append(resolve(name))
    return found


@pytest.mark.parametrize("name", lightning_neft.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(lightning_neft, name)
    assert any(value is other for other in [*documented(API), *documented(DOCS / "reference" / "errors.md")])


@pytest.mark.parametrize(
    "name",
    [
        "lightning_neft.noise.injector.EmbeddingNoise",
        "lightning_neft.models.language_models.CausalLM",
        "lightning_neft.models.language_models.Seq2SeqLM",
        "lightning_neft.models.sequence_classifier.SequenceClassifier",
        "lightning_neft.data.module.TextData",
    ],
)
def test_what_a_user_imports_from_modules_is_documented(name: str) -> None:
    assert any(resolve(name) is other for other in documented(API))


def test_every_public_name_has_a_docstring() -> None:
    for name in set(lightning_neft.__all__) - {"__version__"}:
        assert len(getattr(lightning_neft, name).__doc__) > 30, name


def test_the_list_of_errors_is_whole() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes == set(errors.__all__)


def test_no_error_of_the_package_is_defined_elsewhere() -> None:
    source = Path(lightning_neft.__file__).parent
    bases = "|".join(errors.__all__)
    for path in set(source.rglob("*.py")) - {source / "errors.py"}:
        assert not re.search(rf"^class \w+\(.*\b({bases})\b", path.read_text(encoding="utf-8"), re.MULTILINE), path


@pytest.fixture(scope="module")
def messages() -> dict[str, dict[str, list[str]]]:
    """Those of the page, by class and part of the package."""
    return extension("error_messages").messages()


def test_the_catalogue_has_the_messages_of_every_class(messages: dict[str, dict[str, list[str]]]) -> None:
    assert set(messages) == set(errors.__all__) - {"NEFTError"}
    assert sum(len(texts) for parts in messages.values() for texts in parts.values()) > 300
    assert set(messages["ConfigError"]) > {"The program", "Data", "Models", "The noise"}


@pytest.mark.parametrize(
    ("raise_it", "kind", "part"),
    [
        (lambda: NEFTune(alpha=-1), "ConfigError", "The noise"),
        (lambda: load_recipe("no-such-recipe"), "ConfigError", "Recipes"),
        (lambda: open_source("no-such-file.json"), "DataError", "Data"),
    ],
    ids=["alpha", "recipe", "file"],
)
def test_a_message_is_one_of_the_catalogue(
    raise_it: Callable[[], object], kind: str, part: str, messages: dict[str, dict[str, list[str]]]
) -> None:
    with pytest.raises(errors.NEFTError) as raised:
        raise_it()
    assert type(raised.value).__name__ == kind
    patterns = [re.escape(text).replace("…", ".*") for text in messages[kind][part]]
    assert any(re.fullmatch(pattern, str(raised.value), re.DOTALL) for pattern in patterns), str(raised.value)


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"NEFTError"}))
def test_every_error_says_causes_and_ways_out(name: str) -> None:
    # From Python 3.13 on a docstring has no indentation.
    text = inspect.getdoc(getattr(errors, name))
    assert re.search(r"^Causes: .{20}", text, re.MULTILINE)
    assert re.search(r"^Ways out: .{10}", text, re.MULTILINE)


OPTIONS = DOCS / "reference" / "options.md"


def test_the_option_tables_have_every_key_of_this_package() -> None:
    sections = re.findall(r"^```\{option-table\} ?(\S*)$", OPTIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(sections) > 6
    tables = extension("option_tables")
    shown = {key for section in sections for key in tables.options(section) if not key.startswith("trainer.")}
    assert shown == {key for key in listed_keys() if not re.match(r"(trainer|card)\.|config$", key)}


def test_an_option_has_its_type_default_and_meaning() -> None:
    data = extension("option_tables").options("data")
    assert data["data.batch_size"] == ("integer", "`16`", "Rows in a batch of one device.", 16)
    assert data["data.val_size"].type == "number"
    assert data["data.columns"].type == "mapping"
    assert data["data.sources"].type == "list of section"
    assert data["data.batching"].type == "`random` `length_grouped` `packed` `flat`"
    assert extension("option_tables").options("data.sources")["data.sources[].source"].default == "required"
    # The descriptions of Lightning say their default and examples again.
    checkpoint = extension("option_tables").options("checkpoint")
    assert checkpoint["checkpoint.verbose"].meaning == "verbosity mode."
    assert checkpoint["checkpoint.dirpath"].meaning == "Directory to save the model file."


def test_options_of_the_trainer_have_another_default() -> None:
    tables = extension("option_tables")
    assert {key: one.value for key, one in tables.changed(tables.options("trainer"), L.Trainer).items()} == {
        "trainer.enable_model_summary": False,
        "trainer.max_epochs": 3,
        "trainer.num_sanity_val_steps": -1,
        "trainer.log_every_n_steps": 10,
        "trainer.gradient_clip_val": 1.0,
        "trainer.default_root_dir": "runs",
    }


def test_types_on_the_page_have_the_choices_of_the_code() -> None:
    shown = dict(_TYPE.findall(API.read_text(encoding="utf-8")))
    assert len(shown) >= 9
    for name, text in shown.items():
        choices: list[object] = []
        for part in get_args(resolve(name)):
            choices += get_args(part) or [part]
        assert set(re.findall(r'"(\w+)"', text)) == {choice for choice in choices if isinstance(choice, str)}, name
