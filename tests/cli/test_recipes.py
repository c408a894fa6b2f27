"""The verb recipes: what it lists, shows and copies, and how fast."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import yaml

from lightning_neft.cli import recipes
from lightning_neft.cli.main import main
from lightning_neft.recipes.card import AlphaKind, StatusKind
from lightning_neft.recipes.recipe import find_recipe, load_recipe, recipe_names, recipes_folder


def listed(capsys: pytest.CaptureFixture[str], *filters: str) -> list[str]:
    assert main(["recipes", "list", "--json", *filters]) == 0
    return [recipe["name"] for recipe in json.loads(capsys.readouterr().out)]


def error(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["recipes", *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.removeprefix("lightning_neft: ").strip()


def test_all_recipes_are_listed_with_what_decides_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "list", "--json"]) == 0
    found_recipes = {recipe["name"]: recipe for recipe in json.loads(capsys.readouterr().out)}
    assert sorted(found_recipes) == recipe_names()
    found = found_recipes["llama-2-7b/evol-instruct"]
    keys = ("model", "base", "dataset", "alpha", "alpha_source", "method", "status", "gated", "task")
    assert [found[key] for key in keys] == [
        *("llama-2-7b", "meta-llama/Llama-2-7b-hf", "evol-instruct-70k", 5, "paper", "full", "smoke", True),
        "causal_lm",
    ]
    assert "70.34 -> 79.60" in found["alpha_reference"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--model", "opt-6.7b"], {"alpaca", "evol-instruct", "openplatypus", "sharegpt"}),
        (["--model=opt-6.7b", "--dataset=evol-instruct"], {"evol-instruct"}),
        (["--model=opt-6.7b", "--dataset=evol-instruct-70k"], {"evol-instruct"}),
        (["--model=llama-2-13b", "--method=qlora"], {"alpaca-qlora", "evol-instruct-qlora"}),
        (["--model=OPT-6", "--dataset=evol"], {"evol-instruct"}),
        (["--model=opt*", "--status=smoke", "--method=full", "--dataset=imd?"], {"imdb"}),
    ],
)
def test_filters_leave_what_matches_them_all(
    filters: list[str], expected: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = listed(capsys, *filters)
    assert {name.partition("/")[2] for name in names if "/" in name} == expected


def test_the_table_has_each_name_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "list"]) == 0
    printed = capsys.readouterr().out
    assert [name for name in recipe_names() if f"\n{name} " not in printed] == []
    assert max(map(len, printed.splitlines())) <= 80


def legend(capsys: pytest.CaptureFixture[str], *filters: str) -> list[list[str]]:
    """What is printed below the table: column, word, meaning, with the column of a group at its first line."""
    assert main(["recipes", "list", *filters]) == 0
    _, lines, _ = capsys.readouterr().out.split("\n\n")
    return [re.split(r" {2,}", line.rstrip()) for line in lines.splitlines()]


def test_the_words_of_the_table_are_explained_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    rows = legend(capsys)
    assert all(len(row) == 3 for row in rows)
    assert [row[0] for row in rows if row[0]] == ["alpha from", "status", "gated"]
    assert [row[1] for row in rows] == ["paper", "cited", "default-untested", "executed", "executed", "smoke", "yes"]
    # No word that these recipes do not have.
    assert [row[1] for row in legend(capsys, "--model=opt-6.7b")] == ["paper", "smoke"]


def test_every_kind_of_a_card_has_its_explanation() -> None:
    assert (tuple(recipes._ALPHA_FROM), tuple(recipes._STATUS)) == (get_args(AlphaKind), get_args(StatusKind))


@pytest.mark.parametrize(
    "case",
    [
        ("", "list, show, copy"),
        ("lst", "lst", "list"),
        ("list --modl x", "--modl", "--model"),
        ("list --method qlroa", "--method", "qlroa", "qlora"),
        ("list --model zzz", "--model", "zzz"),
        ("show", "name"),
        ("show llama-2-7b/alpca", "llama-2-7b/alpca", "llama-2-7b/alpaca"),
        ("copy quikstart", "quikstart", "quickstart"),
    ],
    ids=lambda case: case[0] or "no command",
)
def test_what_is_wrong_is_one_line(
    case: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    args, *names = case
    line = error(capsys, *args.split())
    assert [name for name in names if name not in line] == []
    assert "\n" not in line
    snapshot(line)


def test_show_prints_card_estimate_and_the_options_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", "llama-2-70b/evol-instruct"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "Llama 2 Community License; gated",
        "alpha:    15, paper: ",
        "on each of 16 devices",
        "GB",
        "learning_rate: 2.0e-05",
    ):
        assert part in printed
    assert "card:" not in printed
    options, _, command = printed.partition("options that the recipe sets:\n")[2].partition("\n\nThe others")
    config = yaml.safe_load(find_recipe("llama-2-70b/evol-instruct").read_text(encoding="utf-8"))
    del config["card"]
    assert yaml.safe_load(options) == config
    assert main(command.partition("lightning_neft ")[2].split()) == 0
    everything = capsys.readouterr().out.partition("all options:\n")[2]
    assert {"learning_rate: 2.0e-05", "warmup_ratio: 0.03"} <= {line.strip() for line in everything.splitlines()}


@pytest.mark.parametrize("name", recipe_names())
def test_what_show_prints_of_a_recipe_fits_80_columns(name: str) -> None:
    given = {key: value for key, value in load_recipe(name).config.items() if key != "card"}
    assert max(map(len, yaml.safe_dump(given, sort_keys=False).splitlines())) <= 80


def test_show_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", "llama-2-7b/alpaca", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["alpha"]) == ("llama-2-7b/alpaca", 5)
    assert found["config"]["trainer"]["max_epochs"] == 3
    assert found["estimate"]["weights_bytes"] == 2 * 6_738_415_616


def test_show_takes_a_file_and_reports_its_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = find_recipe("quickstart").read_text()
    Path("mine.yaml").write_text(text.replace("learning_rate:", "learnin_rate:"))
    assert "mine.yaml, line" in error(capsys, "show", "mine.yaml")


@pytest.mark.parametrize(
    ("dest", "path"),
    [(None, "llama-2-7b-alpaca.yaml"), ("mine.yaml", "mine.yaml"), ("new/", "new/llama-2-7b-alpaca.yaml")],
)
def test_copy_writes_the_file_with_the_schema_of_the_package(
    dest: str | None, path: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "copy", "llama-2-7b/alpaca", *([dest] if dest else [])]) == 0
    editors, *rest = Path(path).read_text().splitlines()
    assert rest == find_recipe("llama-2-7b/alpaca").read_text().splitlines()[1:]
    before, address = editors.split("=")
    assert (before, address) == ("# yaml-language-server: $schema", (recipes_folder() / "neft.schema.json").as_uri())
    printed = capsys.readouterr().out
    assert f"lightning_neft fit --config {path}" in printed
    assert "its card describes the original" in printed
    assert [file for file in folder.rglob("*") if file.is_file()] == [folder / path]


def test_copy_into_a_folder_keeps_the_name(folder: Path) -> None:
    Path("here").mkdir()
    assert main(["recipes", "copy", "quickstart", "here"]) == 0
    assert Path("here/quickstart.yaml").is_file()


def test_copy_never_replaces_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("quickstart.yaml").write_text("precious")
    line = error(capsys, "copy", "quickstart")
    assert "quickstart.yaml exists" in line
    assert Path("quickstart.yaml").read_text() == "precious"
    assert list(folder.iterdir()) == [folder / "quickstart.yaml"]


def test_a_copy_that_is_edited_runs_under_its_own_name(folder: Path, short: list[str]) -> None:
    assert main(["recipes", "copy", "quickstart", "mine.yaml"]) == 0
    path = Path("mine.yaml")
    path.write_text(path.read_text().replace("alpha: 5", "alpha: 7"))
    assert main(["fit", "--config", "mine.yaml", *short]) == 0
    saved = (folder / "runs/mine/version_0/config.yaml").read_text()
    assert "  alpha: 7.0\n" in saved


def test_list_takes_less_than_a_second() -> None:
    command = [sys.executable, "-m", "lightning_neft", "recipes", "list", "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(json.loads(done.stdout)) == len(recipe_names())
    # The processor's seconds: other work on the machine does not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_leaves_early_is_no_error(options: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lightning_neft", "recipes", "list", *options]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (1, 141)


def test_list_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lightning_neft.cli.main import main; main(['recipes', 'list']);"
        "print(sorted({'torch', 'lightning', 'transformers', 'jsonargparse', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
