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


def outputs(what: str, content: Content, *says: str) -> Case:
    """A file of answers that is evaluated."""
    return Case(what, "evaluate --outputs o.json", says, {"o.json": content})


def annotations(what: str, content: Content, *says: str) -> Case:
    """A file of annotations that is evaluated."""
    return Case(what, "evaluate --annotations a.json", says, {"a.json": content})


def result(what: str, content: Content, *says: str) -> Case:
    """A result that is reported."""
    return Case(what, "report r.json", says, {"r.json": content})


def option(what: str, command: str, *says: str, **files: Content) -> Case:
    """An option that is wrong."""
    return Case(what, command, says, {name.replace("__", "."): content for name, content in files.items()})


def _with(base: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    return [base[0], {**base[1], **changes}]


def _without(base: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [base[0], {key: value for key, value in base[1].items() if key != name}]


def _studied(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = study()
    change(found)
    return found


OUTPUTS_FILES = [
    outputs("answers that are an empty file", "", "o.json is empty"),
    outputs("answers that are an empty list", [], "o.json holds an empty list"),
    outputs("answers that are texts", ["a"], "o.json, record 1: expected an object"),
    outputs("answers cut", json.dumps(OUTPUTS)[:-5], "o.json, line 1", "broken JSON"),
    outputs("answers in UTF-16", json.dumps(OUTPUTS).encode("utf-16"), "o.json is text in UTF-16"),
    outputs("answers with NUL", b'[{"instruction": "\0"}]', "o.json, line 1: a NUL byte"),
    outputs(
        "answers without an answer", _without(OUTPUTS, "output"), "o.json, record 2 has no 'output'", "its keys are"
    ),
    outputs("answers without a question", _without(OUTPUTS, "instruction"), "o.json, record 2 has no 'instruction'"),
    outputs(
        "an answer that is a number", _with(OUTPUTS, output=5), "o.json, record 2: 'output' is 5, it must be a string"
    ),
    outputs("an answer that is null", _with(OUTPUTS, output=None), "o.json, record 2: 'output' is None"),
    outputs("an answer that is a list", _with(OUTPUTS, output=["a"]), "o.json, record 2: 'output' is ['a']"),
    outputs("a generator that is a number", _with(OUTPUTS, generator=5), "o.json, record 2: 'generator' is 5"),
    outputs(
        "answers of two models",
        _with(OUTPUTS, generator="other"),
        "o.json holds outputs of several models",
        "give a file of one",
    ),
    outputs(
        "the same question twice",
        [OUTPUTS[0], OUTPUTS[0]],
        "o.json, record 2 has the same instruction as o.json, record 1",
        "keep one",
    ),
    outputs("a question that is an object", _with(OUTPUTS, instruction={"a": 1}), "o.json, record 2: 'instruction'"),
    outputs("a result for answers", RESULT, "o.json, line 1 has no 'instruction'"),
    Case("answers that are a folder", "evaluate --outputs .", (". is a folder", "give a file")),
    Case("answers that are a device", "evaluate --outputs /dev/null", ("/dev/null",)),
    Case("answers of an empty name", "evaluate --outputs ''", (". is a folder",)),
    Case(
        "memorisation: a reference that is a number",
        "evaluate --memorization --outputs o.json",
        ("o.json, record 2: 'reference' is 5",),
        {"o.json": _with(OUTPUTS, reference=5)},
    ),
    Case(
        "memorisation: no reference",
        "evaluate --memorization --outputs o.json",
        ("1 of 2 records have no 'reference'",),
        {"o.json": _without(OUTPUTS, "reference")},
    ),
    annotations(
        "annotations without a preference", _without(ANNOTATIONS, "preference"), "a.json, record 2 has no 'preference'"
    ),
    annotations(
        "annotations that are all null",
        [{**ANNOTATIONS[0], "preference": None}],
        "a.json: none of its 1 records has a preference",
    ),
    annotations(
        "annotations that are all NaN",
        '[{"instruction": "a", "output_1": "b", "output_2": "c", "preference": NaN}]',
        "none of its 1 records has a preference",
    ),
    annotations(
        "a preference of 3", _with(ANNOTATIONS, preference=3), "a.json, record 2: 'preference' is 3", "it must be 1"
    ),
    annotations("a preference below 0", _with(ANNOTATIONS, preference=-1), "a.json, record 2: 'preference' is -1"),
    annotations("a preference of text", _with(ANNOTATIONS, preference="2"), "a.json, record 2: 'preference' is '2'"),
    annotations("a preference of true", _with(ANNOTATIONS, preference=True), "a.json, record 2: 'preference' is True"),
    annotations(
        "a preference that is infinite",
        '[{"instruction": "a", "output_1": "b", "output_2": "c", "preference": Infinity}]',
        "a.json, record 1: 'preference' is inf",
    ),
    annotations("annotations of answers", OUTPUTS, "a.json, record 1 has no 'output_1'"),
    annotations(
        "annotations of two baselines", _with(ANNOTATIONS, generator_1="x"), "several models", "give a file of one"
    ),
    annotations("an annotation twice", [ANNOTATIONS[0], ANNOTATIONS[0]], "a.json, record 2 has the same instruction"),
    annotations(
        "an answer of a number in annotations", _with(ANNOTATIONS, output_1=1), "a.json, record 2: 'output_1' is 1"
    ),
    option(
        "annotations that do not pair up",
        "evaluate --annotations annotations.json a.json",
        "do not pair up",
        a__json=[{**record, "generator_2": "other"} for record in ANNOTATIONS[:2]],
    ),
    option(
        "annotations of other baselines",
        "evaluate --annotations annotations.json a.json",
        "different baselines",
        a__json=[{**record, "generator_1": "other"} for record in ANNOTATIONS],
    ),
]

RESULTS = [
    result("a result that is empty", "", "r.json is not a result", "give a file that evaluate wrote"),
    result("a result that is a number", "5", "r.json is not a result"),
    result("a result that is a text", '"instruction"', "r.json is not a result"),
    result("a result that is null", "null", "r.json is not a result"),
    result("a result that is cut", json.dumps(RESULT)[:-9], "r.json is not a result"),
    result("a result in UTF-16", json.dumps(RESULT).encode("utf-16"), "r.json is not a result"),
    result("a result nested too deeply", '{"a": ' + "[" * 100_000, "r.json is not a result"),
    result("a result of digits without an end", '{"a": ' + "9" * 5000 + "}", "r.json is not a result"),
    result(
        "a result of another schema",
        {**RESULT, "schema": "lightning_neft.result/99"},
        "schema is 'lightning_neft.result/99'",
    ),
    result("a schema that is a list", {**RESULT, "schema": []}, "schema is []"),
    result("a kind that is an object", {**RESULT, "kind": {}}, "kind is {}"),
    result("a result of an unknown kind", {**RESULT, "kind": "joy"}, "kind is 'joy', it can be"),
    result("a label that is a number", {**RESULT, "label": 5}, "label is 5"),
    result("a provenance that is a list", {**RESULT, "provenance": []}, "provenance is []"),
    result(
        "inputs that are a text",
        {**RESULT, "provenance": {"inputs": "x"}},
        "r.json: provenance: inputs is 'x', where a list is expected",
    ),
    result("inputs of numbers", {**RESULT, "provenance": {"inputs": [1]}}, "r.json: provenance: inputs"),
    result("versions that are a list", {**RESULT, "provenance": {"versions": [1]}}, "r.json: provenance: versions"),
    result("tasks that are a list", {**RESULT, "tasks": [1]}, "r.json: tasks is [1], where an object is expected"),
    result("a task that is a number", {**RESULT, "tasks": {"arc": 5}}, "r.json: tasks", "arc"),
    result(
        "statistics of text",
        {**RESULT, "kind": "text_statistics", "n_total": 1, "mean_words": "many"},
        "r.json: mean_words is 'many'",
    ),
    result("memorisation of texts", {**RESULT, "kind": "memorization", "mean_rouge_l": "x"}, "r.json: mean_rouge_l"),
    result("losses without splits", {**RESULT, "kind": "clean_loss", "splits": 5}, "r.json: splits is 5"),
    result(
        "a loss of text",
        {**RESULT, "kind": "clean_loss", "splits": {"train": {"mean_loss": "low"}}},
        "r.json: splits: train: mean_loss is 'low'",
    ),
    result("a win rate of text", {**RESULT, "kind": "win_rate", "win_rate": "half"}, "r.json: win_rate is 'half'"),
    result(
        "a difference of text",
        {**RESULT, "kind": "win_rate_difference", "difference": "none"},
        "r.json: difference is 'none'",
    ),
    result(
        "variants that are an object", {**RESULT, "kind": "length_ablation", "variants": {}}, "r.json: variants is {}"
    ),
    result(
        "a study without arms", _studied(lambda it: it.update(arms=5)), "r.json: arms is 5, where a list is expected"
    ),
    result("a study of arms that are texts", _studied(lambda it: it.update(arms=["a"])), "r.json: arms"),
    result(
        "an arm with an alpha of null", _studied(lambda it: it["arms"][0].update(alpha=None)), "r.json: arms[0]: alpha"
    ),
    result(
        "an arm with an alpha of NaN",
        _studied(lambda it: it["arms"][0].update(alpha=float("nan"))),
        "r.json: arms[0]: alpha",
    ),
    result(
        "an arm with a seed of text",
        _studied(lambda it: it["arms"][0].update(seed="x")),
        "r.json: arms[0]: seed is 'x'",
    ),
    result(
        "answers of an arm that are numbers",
        _studied(lambda it: it["arms"][0].update(answers=[{"instruction": 1, "output": 2}])),
        "r.json: arms[0]: answers[0]: ",
    ),
    result(
        "statistics of an arm that are a list",
        _studied(lambda it: it["arms"][0].update(text_statistics=[1])),
        "r.json: arms[0]: text_statistics is [1]",
    ),
    result(
        "comparisons that are an object", _studied(lambda it: it.update(comparisons={"a": 1})), "r.json: comparisons"
    ),
    result(
        "a comparison without a metric",
        _studied(lambda it: it["comparisons"][0].update(metric=5)),
        "r.json: comparisons[0]: metric is 5",
    ),
    option("a report of nothing", "report ''", "cannot be read"),
    option("a report of a folder", "report .", ". cannot be read: Is a directory"),
    option("a report of a file that never ends", "report /dev/zero", "/dev/zero"),
    option(
        "a report of answers without an answer",
        "report o.json",
        "o.json, record 2 has no 'output'",
        o__json=_without(OUTPUTS, "output"),
    ),
    option(
        "a report of a result and a broken one",
        "report good.json r.json",
        "r.json is not a result",
        good__json=RESULT,
        r__json="{",
    ),
    option("a report of a title without a value", "report outputs.json --title", "--title", "expected one argument"),
]

EVALUATE = [
    option(
        "a judge of two lines",
        _JUDGE.replace("--judge=j", "'--judge=a\nb'"),
        "a judge's name has to be one line of text, got 'a\\nb'",
        base__json=_BASE,
    ),
    option("a judge of an empty name", _JUDGE.replace("--judge=j", "--judge="), "--judge", base__json=_BASE),
    option(
        "a judge at a file",
        _JUDGE.replace("http://127.0.0.1:9/v1", "file:///etc/passwd"),
        "'file:///etc/passwd' is not a judge's address",
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
    option("attempts of 0", f"{_JUDGE} --attempts=0", "--attempts must be 1 or more, got 0", base__json=_BASE),
    option("a timeout of NaN", f"{_JUDGE} --timeout=nan", "--timeout must be above 0, got nan", base__json=_BASE),
    option("a timeout of 0", f"{_JUDGE} --timeout=0", "--timeout must be above 0", base__json=_BASE),
    option(
        "an infinite pace",
        f"{_JUDGE} --requests-per-minute=inf",
        "--requests-per-minute must be above 0, got inf",
        base__json=_BASE,
    ),
    option(
        "a price of NaN", f"{_JUDGE} --price-input=nan --price-output=1", "a price must be 0 or more", base__json=_BASE
    ),
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
    option(
        "the first 0 tokens", "evaluate --outputs outputs.json --first-k-tokens=0", "first_k_tokens must be 5 or more"
    ),
    option("a tokenizer that there is not", "evaluate --outputs outputs.json --tokenizer=./nix", "./nix"),
    option("a tokenizer that is a file", "evaluate --outputs outputs.json --tokenizer=data.json", "data.json"),
    option("a tokenizer of an empty name", "evaluate --outputs outputs.json --tokenizer=", "model base '' is empty"),
    option(
        "memorisation of no tokens",
        "evaluate --memorization --config=quickstart --max-new-tokens=0",
        "--max-new-tokens 0: use 1 or more",
    ),
    option(
        "memorisation in batches of none", "evaluate --memorization --config=quickstart --batch-size=0", "--batch-size"
    ),
    option("memorisation by a seed below 0", "evaluate --memorization --config=quickstart --seed=-1", "--seed", "-1"),
    option("clean losses of none", "evaluate --clean-loss --config=quickstart --limit=0", "--limit 0: use 1 or more"),
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
        "no held-out samples",
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
        "min_new_tokens",
        "-1",
    ),
    option(
        "an ablation of fewer tokens than it blocks",
        "evaluate --ablation --model=tiny --template=alpaca --prompts=data.json --min-new-tokens=9 --max-new-tokens=3",
        "--max-new-tokens 3 is less than the 9",
    ),
    option(
        "an ablation in batches of none",
        "evaluate --ablation --model=tiny --template=alpaca --prompts=data.json --batch-size=0",
        "--batch-size",
    ),
    option(
        "a benchmark with a template",
        "evaluate --tasks arc_easy --model=tiny --template=alpaca",
        "--template does not go with --tasks",
    ),
    option(
        "a benchmark of no documents", "evaluate --tasks arc_easy --model=tiny --limit=0", "--limit must be 1 or more"
    ),
    option(
        "a result file that is a folder",
        "evaluate --outputs outputs.json --out d.json",
        "--out d.json is a folder",
        d__json=lambda path: path.mkdir(),
    ),
]

OTHERS = [
    option("recipes: an unknown sub-verb", "recipes lst", "recipes: unknown command 'lst'; did you mean list?"),
    option("recipes: no sub-verb", "recipes", "recipes: give one of list, show, copy"),
    option(
        "recipes list: a model that there is not",
        "recipes list --model=llamma-2-7b",
        "no recipe with --model llamma-2-7b",
        "llama-2-7b",
    ),
    option(
        "recipes list: an unknown option", "recipes list --modle=x", "unknown option --modle; did you mean --model?"
    ),
    option(
        "recipes show: a recipe that there is not",
        "recipes show quickstrat",
        "'quickstrat' is neither a file",
        "quickstart",
    ),
    option("recipes show: a path out of the recipes", "recipes show ../../../etc/passwd", "../../../etc/passwd"),
    option("recipes show: binary", "recipes show b.yaml", "b.yaml: cannot be read as YAML", b__yaml=b"\xff\x00\x01"),
    option("recipes copy: a recipe that there is not", "recipes copy nosuch", "'nosuch' is neither"),
    option("recipes copy: no name", "recipes copy", "name"),
    option("recipes copy: a path out of the recipes", "recipes copy ../../pyproject", "../../pyproject"),
    option("preview: nothing", "preview", "preview needs data to look at"),
    option("preview: an option with a slip", "preview --data.source=data.json --jsn", "jsn"),
    option("doctor: nothing", "doctor", "doctor needs something to look at"),
    option("doctor: both", "doctor --model=tiny --config=quickstart", "not at both"),
    option("doctor: a flag with a slip", "doctor --model=tiny --jsno", "did you mean --json?"),
    option("export: nothing", "export", "export needs a trained model"),
    option("export: no place", "export --model=tiny", "export needs --output FOLDER, --push OWNER/NAME"),
    option("export: a dtype that there is not", "export --model=tiny --output=o --dtype=int4", "--dtype", "int4"),
    option(
        "export: a folder of a run that is not trained",
        "export --model=r --output=o",
        "neither a folder model nor checkpoints/last.ckpt",
        **{"r/config__yaml": "{}", "r/checkpoints/x": "x"},
    ),
    option("study: no recipe", "study --alphas=0,5 --config=nosuch", "'nosuch' is neither a file"),
    option("study: seeds of a fraction", f"{_STUDY} --seeds=1.5", "--seeds: got '1.5', give a count"),
    option("study: seeds below 0", f"{_STUDY} --seeds=-1", "--seeds: got '-1', give a count"),
    option("study: a pruner that there is not", f"{_STUDY} --pruner=axe", "--pruner", "axe"),
    option("study: a sampler that there is not", "study --search=1,5 --sampler=dice", "--sampler", "dice"),
    option("study: no trials", "study --search=1,5 --trials=0", "--trials: give 1 or more"),
    option("study: a grace of 0", f"{_STUDY} --grace=0", "--grace: give 1 or more"),
    option("study: answers below 0", f"{_STUDY} --answers=-1", "--answers: got '-1', give a count"),
    option("study: a name of its own", f"{_STUDY} --name=x", "--name is set for each arm; give --out instead"),
]

CASES = [*OUTPUTS_FILES, *RESULTS, *EVALUATE, *OTHERS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_refused_in_one_line(case: Case, refused: Callable[[Case], None]) -> None:
    refused(case)
