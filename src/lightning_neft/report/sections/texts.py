"""Length, repetition and diversity of answers, and the ablation of their length."""

from __future__ import annotations

from lightning_neft.report.content import Block, Chart, Section, Table
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import MISSING, fixed, number, share
from lightning_neft.report.plots.dots import Dot, Dots
from lightning_neft.report.sections.measured import Measured, measured

__all__ = ["texts"]

_LEAD = (
    "Noise tends to make answers longer, and judges like long answers: read win rates beside this. Diamonds are means; "
    "circles are the seeds that they are of."
)
_CHARTS = (
    ("mean_words", "answer-length", "Words per answer", "words"),
    ("repetition_2", "repetition", "Share of 2-grams that repeat an earlier one", "share of repeated 2-grams"),
    ("log_diversity", "diversity", "Log-diversity", "log-diversity"),
)


def _tenths(value: float | None) -> str:
    return fixed(value, decimals=1)


_COLUMNS = (
    ("characters", "mean_characters", _tenths),
    ("words", "mean_words", _tenths),
    ("tokens", "mean_tokens", _tenths),
    ("2-grams", "repetition_2", share),
    ("3-grams", "repetition_3", share),
    ("4-grams", "repetition_4", share),
    ("log-diversity", "log_diversity", fixed),
    ("log-diversity (paper)", "log_diversity_paper", fixed),
    ("distinct-2", "distinct_2", fixed),
    ("empty", "n_empty", _tenths),
)


def texts(inputs: Inputs) -> Section | None:
    """Return the section; None without statistics of answers."""
    found = measured(inputs, "text_statistics")
    blocks: list[Block] = []
    for key, slug, title, what in _CHARTS:
        rows = [_dot(item, key) for item in found if item.values(key)]
        if rows:
            blocks.append(Chart(slug, title, Dots(what, rows)))
    if found:
        blocks.append(_table(found))
    blocks.extend(_ablations(inputs))
    return Section("texts", "Length and repetition", _LEAD, blocks) if blocks else None


def _dot(item: Measured, key: str) -> Dot:
    return Dot(item.label, item.mean(key) or 0.0, points=item.values(key))


def _table(found: list[Measured]) -> Table:
    columns = [column for column in _COLUMNS if any(item.values(column[1]) for item in found)]
    return Table(
        "Answers: mean lengths, repeated n-grams, diversity (mean over the seeds)",
        ["answers of", *(name for name, _, _ in columns)],
        [[item.label, *(words(item.mean(key)) for _, key, words in columns)] for item in found],
    )


def _ablations(inputs: Inputs) -> list[Block]:
    blocks: list[Block] = []
    for result in inputs.of_kind("length_ablation"):
        variants = result.fields.children("variants")
        keys = [key for key in dict.fromkeys(key for one in variants for key in one.names()) if key != "name"]
        keys = [key for key in keys if all(_is_number(one.data.get(key)) for one in variants)]
        rows = [[one.text("name") or MISSING, *(number(one.number(key)) for key in keys)] for one in variants]
        names = [key.replace("mean_", "").replace("_", " ") for key in keys]
        blocks.append(Table(f"Length ablation of {result.label}: other prompts, later ends", ["variant", *names], rows))
    return blocks


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
