"""Options of the noise: not a number, out of range, or contradicting each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bad_input.refusals import FIT, Case

CASES = [
    Case("alpha is NaN", f"{FIT} --neftune.alpha=nan", ("neftune.alpha", "'nan'")),
    Case("alpha is infinite", f"{FIT} --neftune.alpha=inf", ("neftune.alpha", "'inf'")),
    Case("alpha is minus infinity", f"{FIT} --neftune.alpha=-inf", ("neftune.alpha", "'-inf'")),
    Case("alpha is beyond a float", f"{FIT} --neftune.alpha=1e999", ("alpha=inf",)),
    Case("alpha is beyond float32", f"{FIT} --neftune.alpha=1e39", ("alpha=1e+39",)),
    Case("alpha is empty", f"{FIT} --neftune.alpha=", ("neftune.alpha",)),
    Case("alpha is two numbers", f"{FIT} --neftune.alpha=5,10", ("neftune.alpha", "'5,10'")),
    Case("alpha is null", f"{FIT} --neftune.alpha=null", ("alpha=None",)),
    Case("alpha is true", f"{FIT} --neftune.alpha=true", ("neftune.alpha",)),
    Case("alpha is .nan in a config", "fit -c c.yaml", ("alpha=nan",), {"c.yaml": "neftune: {alpha: .nan}"}),
    Case("alpha is a mapping", "fit -c c.yaml", ("neftune.alpha", "float"), {"c.yaml": "neftune: {alpha: {a: 1}}"}),
    Case("alpha is a word", "fit -c c.yaml", ("neftune.alpha", "'five'"), {"c.yaml": "neftune: {alpha: five}"}),
    Case("noise of no known distribution", f"{FIT} --neftune.distribution=normal", ("neftune.distribution", "uniform")),
    Case("length of a word", f"{FIT} --neftune.length=long", ("neftune.length", "padded")),
    Case("length below 1", f"{FIT} --neftune.length=0", ("length", "0")),
    Case("scope of a word", f"{FIT} --neftune.scope=answer", ("neftune.scope", "response")),
    Case(
        "scope with prompts trained",
        f"{FIT} --neftune.scope=prompt --data.prompt_loss=1",
        ("neftune.scope", "data.prompt_loss"),
    ),
    Case("excluded tokens of a word", f"{FIT} --neftune.exclude=bos", ("neftune.exclude", "special")),
    Case("excluded tokens below 0", f"{FIT} --neftune.exclude=[-1]", ("exclude=[-1]", "all_special_ids")),
    Case("scale of a word", f"{FIT} --neftune.scale=big", ("neftune.scale", "relative")),
    Case("reference norm of 0", f"{FIT} --neftune.scale=relative --neftune.reference_norm=0", ("reference_norm",)),
    Case("reference norm of NaN", f"{FIT} --neftune.scale=relative --neftune.reference_norm=nan", ("reference_norm",)),
    Case(
        "consistency without pairs", f"{FIT} --model.consistency=1", ("model.consistency=1", "neftune.antithetic=true")
    ),
    Case("consistency below 0", f"{FIT} --model.consistency=-1", ("model.consistency", "0 or more")),
    Case("antithetic of a number", f"{FIT} --neftune.antithetic=2", ("neftune.antithetic", "true/false")),
    Case("empty target", f"{FIT} --neftune.target=", ("target=''", "model.model.embed_tokens")),
    Case("target that is no embedding", f"{FIT} --neftune.target=model.lm_head", ("model.lm_head", "batch_to_mask")),
    Case("schedule of a word", f"{FIT} --neftune.schedule=cosin", ("neftune.schedule", "cosine")),
    Case("warmup above 1", f"{FIT} --neftune.warmup=1.5", ("warmup", "1.5")),
    Case("warmup below 0", f"{FIT} --neftune.warmup=-0.1", ("warmup", "-0.1")),
    Case("warmup of NaN", f"{FIT} --neftune.warmup=nan", ("warmup", "nan")),
    Case("seed of the noise is a fraction", f"{FIT} --neftune.seed=0.5", ("neftune.seed", "int")),
    Case("the noise twice", f"{FIT} --trainer.callbacks+=lightning_neft.NEFTune", ("NEFTune",)),
    Case("required of a word", f"{FIT} --neftune.required=never", ("neftune.required", "epoch")),
    Case(
        "a search for the learning rate",
        f"{FIT} --trainer.callbacks+=LearningRateFinder",
        ("trainer.callbacks", "LearningRateFinder", "--model.learning_rate"),
    ),
    Case("doctor: alpha is NaN", "doctor --model=tiny --alpha=nan", ("alpha=nan",)),
    Case("doctor: alpha is text", "doctor --model=tiny --alpha=five", ("--alpha", "'five'")),
    Case("doctor: alpha is negative", "doctor --model=tiny --alpha=-3", ("alpha=-3",)),
    Case(
        "doctor: alpha is infinite in a config",
        "doctor --config=quickstart --neftune.alpha=inf",
        ("neftune.alpha", "'inf'"),
    ),
    Case("preview: alpha is negative", "preview --config=quickstart --neftune.alpha=-2", ("alpha=-2",)),
    Case("study: alpha is NaN", "study --alphas=0,nan", ("--alphas", "'0,nan'", "'nan'", "0")),
    Case("study: alpha is negative", "study --alphas=0,-5", ("'-5'", "0")),
    Case("study: alpha is infinite", "study --alphas=0,inf", ("'inf'", "0")),
    Case("study: alphas are text", "study --alphas=zero,five", ("'zero'", "0")),
    Case("study: no alphas", "study --alphas=", ("--alphas", "''", "0,5,10,15")),
    Case("study: an alpha twice", "study --alphas=0,5,5.0", ("--alphas",)),
    Case("study: no baseline", "study --alphas=5,10", ("0", "0,5,10")),
    Case("study: a recipe of two seeds", "study --alphas=0,5 --seeds=2 --write-recipe=t.yaml", ("--seeds 3", "got 2")),
    Case("study: a recipe of no YAML", "study --alphas=0,5 --write-recipe=t.json", ("--write-recipe t.json", ".yaml")),
    Case("study: a recipe that exists", "study --alphas=0,5 --write-recipe=t.yaml", ("t.yaml exists",), {"t.yaml": ""}),
    Case("study: a recipe below a file", "study --alphas=0,5 --write-recipe=f/t.yaml", ("f is a file",), {"f": ""}),
    Case("study: search downwards", "study --search=20,1", ("--search", "'20,1'")),
    Case("study: search of one end", "study --search=5", ("--search", "'5'")),
    Case("study: search of NaN", "study --search=nan,5", ("'nan'", "0")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_refused_in_one_line(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)
