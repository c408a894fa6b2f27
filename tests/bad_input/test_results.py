"""Answers, annotations and results of every wrong shape, and options of evaluate, report, recipes and study."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bad_input.refusals import ANNOTATIONS, OUTPUTS, RESULT, Case, Content
from report.example import study

_JUDGE = "evaluate --judge=j --judge-url=http://127.0.0.1:9/v1 --attempts=1 --outputs outputs.json --baseline base.json"
_BASE = [{**record, "generator": "base"} for record in OUTPUTS]
_STUDY = "study --alphas=0,5 --data.source=data.json --data.val_size=2"


def outputs(what: str, content: Content, *names: str) -> Case:
    """A file of answers that is evaluated."""
    return Case(what, "evaluate --outputs o.json", names, {"o.json": content})


def annotations(what: str, content: Content, *names: str) -> Case:
    """A file of annotations that is evaluated."""
    return Case(what, "evaluate --annotations a.json", names, {"a.json": content})


def result(what: str, content: Content, *names: str) -> Case:
    """A result that is reported."""
    return Case(what, "report r.json", names, {"r.json": content})


def option(what: str, command: str, *names: str, **files: Content) -> Case:
    """An option that is wrong."""
    return Case(what, command, names, {name.replace("__", "."): content for name, content in files.items()})


def _with(base: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    return [base[0], {**base[1], **changes}]


def _without(base: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [base[0], {key: value for key, value in base[1].items() if key != name}]


def _studied(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = study()
    change(found)
    return found


OUTPUTS_FILES = [
    outputs("answers that are an empty file", "", "o.json"),
    outputs("answers that are an empty list", [], "o.json"),
    outputs("answers that are texts", ["a"], "o.json, record 1"),
    outputs("answers cut", json.dumps(OUTPUTS)[:-5], "o.json, line 1"),
    outputs("answers in UTF-16", json.dumps(OUTPUTS).encode("utf-16"), "o.json", "UTF-16"),
    outputs("answers with NUL", b'[{"instruction": "\0"}]', "o.json, line 1"),
    outputs("answers without an answer", _without(OUTPUTS, "output"), "o.json, record 2", "'output'"),
    outputs("answers without a question", _without(OUTPUTS, "instruction"), "o.json, record 2", "'instruction'"),
    outputs("an answer that is a number", _with(OUTPUTS, output=5), "o.json, record 2", "'output'", "5"),
    outputs("an answer that is null", _with(OUTPUTS, output=None), "o.json, record 2", "'output'", "None"),
    outputs("an answer that is a list", _with(OUTPUTS, output=["a"]), "o.json, record 2", "'output'", "['a']"),
    outputs("a generator that is a number", _with(OUTPUTS, generator=5), "o.json, record 2", "'generator'", "5"),
    outputs("answers of two models", _with(OUTPUTS, generator="other"), "o.json"),
    outputs("the same question twice", [OUTPUTS[0], OUTPUTS[0]], "o.json, record 2", "o.json, record 1"),
    outputs("a question that is an object", _with(OUTPUTS, instruction={"a": 1}), "o.json, record 2", "'instruction'"),
    outputs("a result for answers", RESULT, "o.json, line 1", "'instruction'"),
    Case("answers that are a folder", "evaluate --outputs .", ()),
    Case("answers that are a device", "evaluate --outputs /dev/null", ("/dev/null",)),
    Case("answers of an empty name", "evaluate --outputs ''", ()),
    Case(
        "memorisation: a reference that is a number",
        "evaluate --memorization --outputs o.json",
        ("o.json, record 2", "'reference'", "5"),
        {"o.json": _with(OUTPUTS, reference=5)},
    ),
    Case(
        "memorisation: no reference",
        "evaluate --memorization --outputs o.json",
        ("o.json", "'reference'", "1 of 2"),
        {"o.json": _without(OUTPUTS, "reference")},
    ),
    annotations(
        "annotations without a preference", _without(ANNOTATIONS, "preference"), "a.json, record 2", "'preference'"
    ),
    annotations("annotations that are all null", [{**ANNOTATIONS[0], "preference": None}], "a.json"),
    annotations(
        "annotations that are all NaN",
        '[{"instruction": "a", "output_1": "b", "output_2": "c", "preference": NaN}]',
        "a.json",
    ),
    annotations("a preference of 3", _with(ANNOTATIONS, preference=3), "a.json, record 2", "'preference'", "3", "1"),
    annotations("a preference below 0", _with(ANNOTATIONS, preference=-1), "a.json, record 2", "'preference'", "-1"),
    annotations("a preference of text", _with(ANNOTATIONS, preference="2"), "a.json, record 2", "'preference'", "'2'"),
    annotations(
        "a preference of true", _with(ANNOTATIONS, preference=True), "a.json, record 2", "'preference'", "True"
    ),
    annotations(
        "a preference that is infinite",
        '[{"instruction": "a", "output_1": "b", "output_2": "c", "preference": Infinity}]',
        "a.json, record 1",
        "'preference'",
        "inf",
    ),
    annotations("annotations of answers", OUTPUTS, "a.json, record 1", "'output_1'"),
    annotations("annotations of two baselines", _with(ANNOTATIONS, generator_1="x"), "a.json", "generator_1"),
    annotations("an annotation twice", [ANNOTATIONS[0], ANNOTATIONS[0]], "a.json, record 2"),
    annotations(
        "an answer of a number in annotations", _with(ANNOTATIONS, output_1=1), "a.json, record 2", "'output_1'", "1"
    ),
    option(
        "annotations that do not pair up",
        "evaluate --annotations annotations.json a.json",
        "annotations.json",
        "a.json",
        "'Say hen.'",
        a__json=[{**record, "generator_2": "other"} for record in ANNOTATIONS[:2]],
    ),
    option(
        "annotations of other baselines",
        "evaluate --annotations annotations.json a.json",
        "annotations.json",
        "a.json",
        "'base'",
        "'other'",
        a__json=[{**record, "generator_1": "other"} for record in ANNOTATIONS],
    ),
]

RESULTS = [
    result("a result that is empty", "", "r.json"),
    result("a result that is a number", "5", "r.json"),
    result("a result that is a text", '"instruction"', "r.json"),
    result("a result that is null", "null", "r.json"),
    result("a result that is cut", json.dumps(RESULT)[:-9], "r.json"),
    result("a result in UTF-16", json.dumps(RESULT).encode("utf-16"), "r.json"),
    result("a result nested too deeply", '{"a": ' + "[" * 100_000, "r.json"),
    result("a result of digits without an end", '{"a": ' + "9" * 5000 + "}", "r.json"),
    result(
        "a result of another schema",
        {**RESULT, "schema": "lightning_neft.result/99"},
        "r.json",
        "schema",
        "'lightning_neft.result/99'",
    ),
    result("a schema that is a list", {**RESULT, "schema": []}, "r.json", "schema", "[]"),
    result("a kind that is an object", {**RESULT, "kind": {}}, "r.json", "kind", "{}"),
    result("a result of an unknown kind", {**RESULT, "kind": "joy"}, "kind", "'joy'"),
    result("a label that is a number", {**RESULT, "label": 5}, "r.json", "label", "5"),
    result("a provenance that is a list", {**RESULT, "provenance": []}, "r.json", "provenance", "[]"),
    result(
        "inputs that are a text", {**RESULT, "provenance": {"inputs": "x"}}, "r.json", "provenance", "inputs", "'x'"
    ),
    result("inputs of numbers", {**RESULT, "provenance": {"inputs": [1]}}, "r.json", "provenance", "inputs"),
    result("versions that are a list", {**RESULT, "provenance": {"versions": [1]}}, "r.json", "provenance", "versions"),
    result("tasks that are a list", {**RESULT, "tasks": [1]}, "r.json", "tasks", "[1]"),
    result("a task that is a number", {**RESULT, "tasks": {"arc": 5}}, "r.json", "tasks", "arc"),
    result(
        "statistics of text",
        {**RESULT, "kind": "text_statistics", "n_total": 1, "mean_words": "many"},
        "r.json",
        "mean_words",
        "'many'",
    ),
    result("memorisation of texts", {**RESULT, "kind": "memorization", "mean_rouge_l": "x"}, "r.json", "mean_rouge_l"),
    result("losses without splits", {**RESULT, "kind": "clean_loss", "splits": 5}, "r.json", "splits", "5"),
    result(
        "a loss of text",
        {**RESULT, "kind": "clean_loss", "splits": {"train": {"mean_loss": "low"}}},
        "r.json",
        "splits",
        "train",
        "mean_loss",
        "'low'",
    ),
    result("a win rate of text", {**RESULT, "kind": "win_rate", "win_rate": "half"}, "r.json", "win_rate", "'half'"),
    result(
        "a difference of text",
        {**RESULT, "kind": "win_rate_difference", "difference": "none"},
        "r.json",
        "difference",
        "'none'",
    ),
    result(
        "variants that are an object", {**RESULT, "kind": "length_ablation", "variants": {}}, "r.json", "variants", "{}"
    ),
    result("a study without arms", _studied(lambda it: it.update(arms=5)), "r.json", "arms", "5"),
    result("a study of arms that are texts", _studied(lambda it: it.update(arms=["a"])), "r.json", "arms"),
    result(
        "an arm with an alpha of null",
        _studied(lambda it: it["arms"][0].update(alpha=None)),
        "r.json",
        "arms[0]",
        "alpha",
    ),
    result(
        "an arm with an alpha of NaN",
        _studied(lambda it: it["arms"][0].update(alpha=float("nan"))),
        "r.json",
        "arms[0]",
        "alpha",
    ),
    result(
        "an arm with a seed of text",
        _studied(lambda it: it["arms"][0].update(seed="x")),
        "r.json",
        "arms[0]",
        "seed",
        "'x'",
    ),
    result(
        "answers of an arm that are numbers",
        _studied(lambda it: it["arms"][0].update(answers=[{"instruction": 1, "output": 2}])),
        "r.json",
        "arms[0]",
        "answers[0]",
    ),
    result(
        "statistics of an arm that are a list",
        _studied(lambda it: it["arms"][0].update(text_statistics=[1])),
        "r.json",
        "arms[0]",
        "text_statistics",
        "[1]",
    ),
    result(
        "comparisons that are an object", _studied(lambda it: it.update(comparisons={"a": 1})), "r.json", "comparisons"
    ),
    result(
        "a comparison without a metric",
        _studied(lambda it: it["comparisons"][0].update(metric=5)),
        "r.json",
        "comparisons[0]",
        "metric",
        "5",
    ),
    option("a report of nothing", "report ''"),
    option("a report of a folder", "report ."),
    option("a report of a file that never ends", "report /dev/zero", "/dev/zero"),
    option(
        "a report of answers without an answer",
        "report o.json",
        "o.json, record 2",
        "'output'",
        o__json=_without(OUTPUTS, "output"),
    ),
    option(
        "a report of a result and a broken one", "report good.json r.json", "r.json", good__json=RESULT, r__json="{"
    ),
    option("a report of a title without a value", "report outputs.json --title", "--title"),
]

EVALUATE = [
    option("a judge of two lines", _JUDGE.replace("--judge=j", "'--judge=a\nb'"), "'a\\nb'", base__json=_BASE),
    option("a judge of an empty name", _JUDGE.replace("--judge=j", "--judge="), "--judge", base__json=_BASE),
    option(
        "a judge at a file",
        _JUDGE.replace("http://127.0.0.1:9/v1", "file:///etc/passwd"),
        "'file:///etc/passwd'",
        base__json=_BASE,
    ),
    option("a judge at no port", _JUDGE.replace("127.0.0.1:9", "127.0.0.1:99999"), "99999", base__json=_BASE),
    option(
        "a judge with a password in its address",
        _JUDGE.replace("http://127", "http://me:secret@127"),
        "judge",
        base__json=_BASE,
    ),
    option("half a worker", f"{_JUDGE} --workers=0.5", "--workers", "'0.5'", base__json=_BASE),
    option("attempts of 0", f"{_JUDGE} --attempts=0", "--attempts", "1", "0", base__json=_BASE),
    option("a timeout of NaN", f"{_JUDGE} --timeout=nan", "--timeout", "0", "nan", base__json=_BASE),
    option("a timeout of 0", f"{_JUDGE} --timeout=0", "--timeout", "0", base__json=_BASE),
    option(
        "an infinite pace", f"{_JUDGE} --requests-per-minute=inf", "--requests-per-minute", "0", "inf", base__json=_BASE
    ),
    option("a price of NaN", f"{_JUDGE} --price-input=nan --price-output=1", "--price-input", "nan", base__json=_BASE),
    option("a baseline of other questions", _JUDGE, "base.json", base__json=[{**_BASE[0], "instruction": "?"}]),
    option("a baseline that is cut", _JUDGE, "base.json, line 1", base__json=json.dumps(_BASE)[:-4]),
    option("a baseline that lacks a question", _JUDGE, "base.json", base__json=_BASE[:2]),
    option("a baseline of two models", _JUDGE, "base.json", base__json=_with(_BASE, generator="x")),
    option(
        "verdicts that are no database",
        f"{_JUDGE} --verdicts=v.sqlite",
        "v.sqlite",
        base__json=_BASE,
        v__sqlite="text" * 100,
    ),
    option("verdicts that are a folder", f"{_JUDGE} --verdicts=.", "verdicts", base__json=_BASE),
    option("verdicts below a file", f"{_JUDGE} --verdicts=data.json/v.sqlite", "data.json", base__json=_BASE),
    option(
        "a judge that is a folder of nothing",
        _JUDGE.replace("--judge=j", "--judge=local:./nix"),
        "./nix",
        base__json=_BASE,
    ),
    option(
        "a judge that is a file", _JUDGE.replace("--judge=j", "--judge=local:data.json"), "data.json", base__json=_BASE
    ),
    option("a seed of text", f"{_JUDGE} --seed=x", "--seed", "'x'", base__json=_BASE),
    option("the first 0 tokens", "evaluate --outputs outputs.json --first-k-tokens=0", "first_k_tokens", "5"),
    option("a tokenizer that there is not", "evaluate --outputs outputs.json --tokenizer=./nix", "./nix"),
    option("a tokenizer that is a file", "evaluate --outputs outputs.json --tokenizer=data.json", "data.json"),
    option("a tokenizer of an empty name", "evaluate --outputs outputs.json --tokenizer=", "''"),
    option(
        "memorisation of no tokens",
        "evaluate --memorization --config=quickstart --max-new-tokens=0",
        "--max-new-tokens",
        "0",
        "1",
    ),
    option(
        "memorisation in batches of none", "evaluate --memorization --config=quickstart --batch-size=0", "--batch-size"
    ),
    option("memorisation by a seed below 0", "evaluate --memorization --config=quickstart --seed=-1", "--seed", "-1"),
    option("clean losses of none", "evaluate --clean-loss --config=quickstart --limit=0", "--limit", "0", "1"),
    option("clean losses by a seed below 0", "evaluate --clean-loss --config=quickstart --seed=-1", "--seed", "-1"),
    option(
        "differences by a seed below 0",
        "evaluate --annotations annotations.json a.json --seed=-1",
        "--seed",
        "-1",
        a__json=[{**record, "generator_2": "other"} for record in ANNOTATIONS],
    ),
    option(
        "clean losses without held-out samples",
        "evaluate --clean-loss --data.source=data.json --data.val_size=0",
        "data.val_size",
    ),
    option("an ablation without prompts", "evaluate --ablation --model=tiny", "--prompts"),
    option(
        "an ablation of prompts that are cut",
        "evaluate --ablation --model=tiny --template=alpaca --prompts=p.json",
        "p.json, line 1",
        p__json="[{",
    ),
    option(
        "an ablation that blocks below 0",
        "evaluate --ablation --model=tiny --template=alpaca --prompts=data.json --min-new-tokens=-1",
        "--min-new-tokens",
        "-1",
    ),
    option(
        "an ablation of fewer tokens than it blocks",
        "evaluate --ablation --model=tiny --template=alpaca --prompts=data.json --min-new-tokens=9 --max-new-tokens=3",
        "--max-new-tokens",
        "3",
        "9",
    ),
    option(
        "an ablation in batches of none",
        "evaluate --ablation --model=tiny --template=alpaca --prompts=data.json --batch-size=0",
        "--batch-size",
    ),
    option(
        "a benchmark with a template",
        "evaluate --tasks arc_easy --model=tiny --template=alpaca",
        "--template",
        "--tasks",
    ),
    option("a benchmark of no documents", "evaluate --tasks arc_easy --model=tiny --limit=0", "--limit", "1"),
    option(
        "a result file that is a folder",
        "evaluate --outputs outputs.json --out d.json",
        "--out",
        "d.json",
        d__json=lambda path: path.mkdir(),
    ),
]

OTHERS = [
    option("recipes: an unknown sub-verb", "recipes lst", "recipes", "'lst'", "list"),
    option("recipes: no sub-verb", "recipes", "list", "show", "copy"),
    option(
        "recipes list: a model that there is not",
        "recipes list --model=llamma-2-7b",
        "--model",
        "llamma-2-7b",
        "llama-2-7b",
    ),
    option("recipes list: an unknown option", "recipes list --modle=x", "--modle", "--model"),
    option("recipes show: a recipe that there is not", "recipes show quickstrat", "'quickstrat'", "quickstart"),
    option("recipes show: a path out of the recipes", "recipes show ../../../etc/passwd", "../../../etc/passwd"),
    option("recipes show: binary", "recipes show b.yaml", "b.yaml", b__yaml=b"\xff\x00\x01"),
    option("recipes copy: a recipe that there is not", "recipes copy nosuch", "'nosuch'"),
    option("recipes copy: no name", "recipes copy", "name"),
    option("recipes copy: a path out of the recipes", "recipes copy ../../pyproject", "../../pyproject"),
    option("preview: nothing", "preview", "preview", "--config", "--data.source"),
    option("preview: an option with a slip", "preview --data.source=data.json --jsn", "jsn"),
    option("doctor: nothing", "doctor", "doctor", "--config", "--model"),
    option("doctor: both", "doctor --model=tiny --config=quickstart", "--config", "--model"),
    option("doctor: a flag with a slip", "doctor --model=tiny --jsno", "--json"),
    option("export: nothing", "export", "export", "--model", "--config", "--ckpt_path"),
    option("export: no place", "export --model=tiny", "export", "--output", "--push"),
    option("export: a dtype that there is not", "export --model=tiny --output=o --dtype=int4", "--dtype", "int4"),
    option(
        "export: a folder of a run that is not trained",
        "export --model=r --output=o",
        "r",
        "checkpoints/last.ckpt",
        **{"r/config__yaml": "{}", "r/checkpoints/x": "x"},
    ),
    option("study: no recipe", "study --alphas=0,5 --config=nosuch", "'nosuch'"),
    option("study: seeds of a fraction", f"{_STUDY} --seeds=1.5", "--seeds", "'1.5'"),
    option("study: seeds below 0", f"{_STUDY} --seeds=-1", "--seeds", "'-1'"),
    option("study: a pruner that there is not", f"{_STUDY} --pruner=axe", "--pruner", "axe"),
    option("study: a sampler that there is not", "study --search=1,5 --sampler=dice", "--sampler", "dice"),
    option("study: no trials", "study --search=1,5 --trials=0", "--trials", "1"),
    option("study: a grace of 0", f"{_STUDY} --grace=0", "--grace", "1"),
    option("study: answers below 0", f"{_STUDY} --answers=-1", "--answers", "'-1'"),
    option("study: a name of its own", f"{_STUDY} --name=x", "--name", "--out"),
]

CASES = [*OUTPUTS_FILES, *RESULTS, *EVALUATE, *OTHERS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_refused_in_one_line(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)
