"""Python on the pages that are no tutorials: it runs too, or at least says nothing that the package does not have."""

from __future__ import annotations

import pytest

from lightning_neft import EmbeddingNoise
from pages import DOCS, blocks, script


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


def test_the_evidence_figure_shows_the_numbers_of_its_page() -> None:
    figure = script(DOCS / "figures" / "evidence.py")
    found = figure.differences()
    table = (DOCS / "evidence.md").read_text(encoding="utf-8")
    assert len(found) == 12
    for one in found:
        text = f"{one.difference:.3f} ({one.low:.3f} to {one.high:.3f})"
        assert (f"**{text}**" if one.leaves_out_zero else f"| {text} |") in table
    shown = {
        (panel.get_title(loc="left"), round(float(line.get_xdata()[0]), 6), line.get_markerfacecolor() != "none")
        for panel in figure.draw().axes
        for line in panel.get_lines()
        if len(line.get_xdata()) == 1 and line.get_marker() in ("o", "s")
    }
    assert shown == {(f"300 {one.source}", round(one.difference, 6), one.leaves_out_zero) for one in found}
