"""Python on the pages that are no tutorials: it runs too, or at least says nothing that the package does not have."""

from __future__ import annotations

import pytest

from lightning_neft import EmbeddingNoise
from pages import DOCS, ROOT, blocks, script


def test_the_example_of_an_exact_resume_prints_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    (block,) = blocks(DOCS / "explanation" / "randomness.md")
    exec(block.text, names)
    assert capsys.readouterr().out == block.says
    assert names["EmbeddingNoise"] is EmbeddingNoise


def test_the_line_on_the_first_page_runs() -> None:
    names: dict[str, object] = {}
    (block,) = (block for block in blocks(DOCS / "index.md") if block.language == "python")
    exec(block.text, names)
    assert len(block.text.splitlines()) == 4


def test_the_figure_shows_the_strengths_of_the_formula() -> None:
    figure = script(DOCS / "figures" / "lengths.py")
    padded, packed = figure.batches().values()
    measure = figure.measured_rms
    figure.DRAWS = 50
    true = measure(padded, "true")
    for row, length in zip(true, (4, 8, 16, 32), strict=True):
        assert row[:length].mean().item() == pytest.approx(5 / (3 * length * 64) ** 0.5, rel=0.02)
        assert not row[length:].any()
    assert measure(padded, "padded").mean().item() == pytest.approx(5 / (3 * 32 * 64) ** 0.5, rel=0.02)
    documents = measure(packed, "true")[0]
    assert documents[4:16].mean().item() == pytest.approx(5 / (3 * 12 * 64) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", ["evidence_page", "noise_effect_page"])
def test_the_evidence_is_current(name: str) -> None:
    evidence, saved_figure = (script(ROOT / "scripts" / f"{each}.py") for each in (name, "saved_figure"))
    text = evidence.PAGE.read_text(encoding="utf-8")
    assert evidence.page(text) == text, f"run python scripts/{name}.py"
    assert saved_figure.digest(evidence.result_files()) in evidence.FIGURE.read_text(encoding="utf-8")
