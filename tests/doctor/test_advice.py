"""The warnings of a report, and their absence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_neft.doctor.advice import advise
from lightning_neft.doctor.report import BatchReport, DoctorReport, EmbeddingReport, LengthReport, ModelReport

MODEL = ModelReport("here", "LlamaForCausalLM", 100, 10, "checkpoint", "float32", "eval", "train", False)
BATCH = BatchReport("here", True, 4, 4, 8, {"attention_mask": [8, 6, 4, 2]}, "tokens", 12, 0, 0)
EMBEDDING = EmbeddingReport(
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


def advised(model=None, noise=None, batch=None, embedding=None):
    report = replace(
        REPORT,
        model=replace(MODEL, **model or {}),
        noise={**REPORT.noise, **(noise or {})},
        batch=replace(BATCH, **batch or {}),
        embeddings=[replace(EMBEDDING, **embedding or {})],
    )
    return advise(report)


def warned(**changes):
    return [advice.what for advice in advised(**changes)]


def test_no_problem_no_warning():
    assert warned() == []
    assert warned(embedding={"noise_rms": None, "noise_to_signal": None, "unchanged": None, "block": None}) == []
    assert warned(embedding={"block": None, "block_noise_to_signal": None, "multiplier": None}) == []


@pytest.mark.parametrize(
    ("what", "changes", "names"),
    [
        ("rounding", {"embedding": {"unchanged": 0.51, "dtype": "bfloat16"}}, ["bfloat16", "51%"]),
        (
            "noise at the block",
            {"embedding": {"noise_to_signal": 1.0, "block_noise_to_signal": 1.0}},
            ["layers.0", "1.00"],
        ),
        (
            "noise at the embedding",
            {"embedding": {"noise_to_signal": 1.5, "block": None, "block_noise_to_signal": None}},
            ["embed", "1.50"],
        ),
        ("multiplier", {"embedding": {"multiplier": 45.25}}, ["embed", "45.2"]),
        ("weaker at the block", {"embedding": {"block_noise_to_signal": 0.1}}, ["embed", "layers.0", "0.2 to 0.1"]),
        ("stronger at the block", {"embedding": {"block_noise_to_signal": 0.4}}, ["embed", "layers.0", "0.2 to 0.4"]),
        ("padded length", {"noise": {"length": "padded"}}, ["length: padded"]),
        ("unmarked padding", {"batch": {"lengths": {}}}, ["padding"]),
        ("no labels", {"batch": {"labels": None}}, ["labels"]),
        ("masked labels", {"batch": {"labelled_tokens": 0}}, ["-100"]),
        ("rows without labels", {"batch": {"rows_without_labels": 1}}, ["1 of 4 rows"]),
        ("rows cut", {"batch": {"rows_cut": 3}}, ["3 of 4 rows", "data.max_length"]),
        ("eval after loading", {"model": {"mode_in_fit": None, "has_dropout": True}}, ["from_pretrained", "eval"]),
        ("eval in the fit", {"model": {"mode_in_fit": "eval", "has_dropout": True}}, ["fit", "eval"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_problem_gives_one_warning(what, changes, names, snapshot):
    [advice] = advised(**changes)
    assert [name for name in names if name not in advice.what] == []
    snapshot(f"{advice.what}\n-> {advice.do}")


def test_rounding_at_a_longer_length_is_one_warning():
    long = [LengthReport("embed", 512, 0.1, 0.1, 0.8)]
    [advice] = advise(replace(REPORT, long=long))
    assert advice.what.startswith("on samples of 512 tokens, rounding to float32 leaves 80% of the elements of embed")
    already = replace(EMBEDDING, unchanged=0.6)
    assert len(advise(replace(REPORT, embeddings=[already], long=long))) == 1
    assert advise(replace(REPORT, long=[replace(long[0], unchanged=0.4)])) == []


def test_multipliers_weaken_or_strengthen_alpha():
    assert "the same alpha is 4 times weaker" in warned(embedding={"multiplier": 4.0})[0]
    assert "the same alpha is 4 times stronger" in warned(embedding={"multiplier": 0.25})[0]
    assert warned(embedding={"multiplier": 1.9}) == []


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
def test_harmless_settings_give_no_warning(changes):
    assert warned(**changes) == []


def test_padded_length_reports_the_loss():
    # The shortest sequence has 2 of 8 tokens: the root of a quarter.
    assert "the shortest sequence is 0.50 times the paper's" in warned(noise={"length": "padded"})[0]
