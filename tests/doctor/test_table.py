"""The table: all facts, within the width of the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from doctor.small import built, row_of, subject_of
from lightning_neft.doctor.examine import examine
from lightning_neft.doctor.table import print_report
from lightning_neft.noise.injector import EmbeddingNoise


def printed(name, width, **options):
    model = built(name)
    noise = {"alpha": 5.0, "length": "true"}
    report = examine(subject_of(model), row_of(name).batch(), EmbeddingNoise(), options=noise, **options)
    file = io.StringIO()
    print_report(report, Console(file=file, width=width))
    return report, file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["Llama", "EncoderDecoderModel, BERT to BERT"])
def test_it_fits_the_width_and_omits_no_name(name, width):
    report, text = printed(name, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    squeezed = "".join(text.split())
    for found in report.embeddings:
        assert squeezed.count(found.name) >= 2
        for number in (found.noise_rms, found.embedding_rms, found.token_norm, found.block_noise_to_signal):
            assert f"{number:.4g}" in text


def test_it_begins_with_the_answer():
    _, text = printed("Llama", 100)
    assert text.splitlines()[0] == "Noise is applied to model.embed_tokens."
    _, text = printed("Llama", 100, off="it is [off]")
    assert text.splitlines()[0] == "No noise is applied: it is [off]"
    assert "strength" not in text


def test_the_strength_of_the_papers_alphas_stands_beside_it():
    """Only of the paper's noise: another distribution, scale or length is another noise."""
    model, paper = built("Llama"), {"distribution": "uniform", "length": "true", "scale": "paper"}
    for options, is_shown in (({}, True), ({"scale": "relative"}, False), ({"distribution": "gaussian"}, False)):
        noise = EmbeddingNoise(10, **options)
        report = examine(subject_of(model), row_of("Llama").batch(), noise, options={"alpha": 10.0, **paper, **options})
        file = io.StringIO()
        print_report(report, Console(file=file, width=80))
        [ratio] = [found.noise_to_signal for found in report.embeddings]
        row = f"noise-to-signal with alpha 5 to 15   {ratio / 2:.4g} to {ratio * 1.5:.4g}"
        assert (row in file.getvalue()) == is_shown
        assert ("reports no noise-to-signal" in file.getvalue()) == is_shown


def test_it_ends_with_the_warnings():
    report, text = printed("BERT, masked LM", 200)
    assert text.count("\n! ") == text.count("\n  -> ") == len(report.warnings) > 0
    assert f"-> {report.warnings[-1].do}." in text


def test_notes_and_lengths_are_shown():
    report, text = printed("T5", 200, notes=["read this [first]"], long=300)
    assert "read this [first]" in text
    assert "4 to 12, mean 8, from attention_mask" in text
    assert "5 to 9, mean 7, from decoder_attention_mask" in text
    assert "on 20 tokens" in text
    for long in report.long:
        assert f"at 300 noise-to-signal {long.noise_to_signal:.4g} on {long.name} on samples" in " ".join(text.split())


def test_control_characters_are_escaped():
    _, text = printed("Llama", 100, notes=["no row for \x1b[2Jtoken"])
    assert "\x1b" not in text
    assert r"no row for \x1b[2Jtoken" in text
