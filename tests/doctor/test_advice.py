"""What is said about a report, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_neft.doctor.advice import advise
from lightning_neft.doctor.report import BatchFacts, DoctorReport, EmbeddingFacts, LongFacts, ModelFacts

MODEL = ModelFacts("here", "LlamaForCausalLM", 100, 10, "checkpoint", "float32", "eval", "train", False)
BATCH = BatchFacts("here", True, 4, 4, 8, {"attention_mask": [8, 6, 4, 2]}, "tokens", 12, 0, 0)
EMBEDDING = EmbeddingFacts(
    name="embed",
    kind="Embedding",
    table=(9, 4),
    found_by="name",
    width=4,
    dtype="float32",
    noise_rms=0.1,
    embedding_rms=0.5,
    token_norm=1.0,
    noise_to_signal=0.2,
    block="layers.0",
    block_noise_to_signal=0.2,
    unchanged=0.0,
    multiplier=1.0,
)
REPORT = DoctorReport(None, MODEL, {"alpha": 5.0, "length": "true", "scale": "paper"}, BATCH, [EMBEDDING])


def told(model=None, noise=None, batch=None, embedding=None):
    report = replace(
        REPORT,
        model=replace(MODEL, **model or {}),
        noise={**REPORT.noise, **(noise or {})},
        batch=replace(BATCH, **batch or {}),
        embeddings=[replace(EMBEDDING, **embedding or {})],
    )
    return [advice.what for advice in advise(report)]


def test_nothing_is_said_where_nothing_is_wrong():
    assert told() == []
    assert told(embedding={"noise_rms": None, "noise_to_signal": None, "unchanged": None, "block": None}) == []
    assert told(embedding={"block": None, "block_noise_to_signal": None, "multiplier": None}) == []


@pytest.mark.parametrize(
    ("changes", "beginning"),
    [
        ({"embedding": {"unchanged": 0.51, "dtype": "bfloat16"}}, "rounding to bfloat16 leaves 51% of the elements"),
        (
            {"embedding": {"noise_to_signal": 1.0, "block_noise_to_signal": 1.0}},
            "at layers.0 the noise is 1.00 times as strong as the signal",
        ),
        (
            {"embedding": {"noise_to_signal": 1.5, "block": None, "block_noise_to_signal": None}},
            "at embed the noise is 1.50 times as strong as the signal",
        ),
        (
            {"embedding": {"multiplier": 45.25}},
            "embed multiplies its rows by 45.2 before the noise is added: against the",
        ),
        (
            {"embedding": {"block_noise_to_signal": 0.1}},
            "between embed and layers.0 noise-to-signal goes from 0.2 to 0.1",
        ),
        (
            {"embedding": {"block_noise_to_signal": 0.4}},
            "between embed and layers.0 noise-to-signal goes from 0.2 to 0.4",
        ),
        (
            {"noise": {"length": "padded"}},
            "length: padded puts noise on padding and takes the width of the batch for L",
        ),
        ({"batch": {"lengths": {}}}, "nothing in the batch tells padding from tokens"),
        ({"batch": {"labels": None}}, "the batch has no labels"),
        ({"batch": {"labelled_tokens": 0}}, "all labels of the batch are -100"),
        ({"batch": {"rows_without_labels": 1}}, "1 of 4 rows have no label"),
        ({"batch": {"rows_cut": 3}}, "3 of 4 rows are as long as data.max_length allows"),
        (
            {"model": {"mode_in_fit": None, "has_dropout": True}},
            "from_pretrained returns the model in eval mode, and Lightning keeps that",
        ),
        ({"model": {"mode_in_fit": "eval", "has_dropout": True}}, "the fit keeps the model in eval mode"),
    ],
)
def test_what_is_wrong_is_said_once_with_what_to_do(changes, beginning):
    [what] = told(**changes)
    assert what.startswith(beginning)


def test_rounding_that_comes_with_the_length_is_told_once():
    long = [LongFacts("embed", 512, 0.1, 0.1, 0.8)]
    [advice] = advise(replace(REPORT, long=long))
    assert advice.what.startswith("on samples of 512 tokens rounding to float32 leaves 80% of the elements of embed")
    already = replace(EMBEDDING, unchanged=0.6)
    assert len(advise(replace(REPORT, embeddings=[already], long=long))) == 1
    assert advise(replace(REPORT, long=[replace(long[0], unchanged=0.4)])) == []


def test_how_much_weaker_one_alpha_is_depends_on_the_direction():
    assert "one alpha is 4 times weaker" in told(embedding={"multiplier": 4.0})[0]
    assert "one alpha is 4 times stronger" in told(embedding={"multiplier": 0.25})[0]
    assert told(embedding={"multiplier": 1.9}) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": {"scale": "relative"}, "embedding": {"multiplier": 45.0}},
        # The size of random weights is nobody's.
        {"model": {"weights": "random"}, "embedding": {"noise_to_signal": 9.0, "block_noise_to_signal": 1.2}},
        {"model": {"has_dropout": True}},
        {"model": {"mode_in_fit": None}},
        {"model": {"mode_in_fit": "eval"}},
        {"batch": {"labels": "classes", "labelled_tokens": None, "rows_without_labels": None}},
        # The doctor's own batch is not what is trained on.
        {"batch": {"is_of_user": False, "labels": None, "rows_cut": 4}},
        {"batch": {"lengths": {}, "rows": 1}},
        {"noise": {"length": "padded"}, "batch": {"lengths": {}}},
    ],
)
def test_what_is_no_fault_is_not_said(changes):
    assert told(**changes) == []


def test_of_padding_it_says_how_much_is_lost():
    # The shortest sequence has 2 of 8 tokens: the root of a quarter.
    assert "down to 0.50 times the paper's" in told(noise={"length": "padded"})[0]
