"""The sections on texts: length, repetition, diversity, the length ablation, and copies of training answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lightning_neft.report.content import MISSING, Block, Chart, Note, PageSection, Table, count, fixed, share
from lightning_neft.report.inputs import Inputs, Measured, Result
from lightning_neft.report.values import Dot, Dots, Histogram

__all__ = ["memorization", "texts"]

_LEAD = "Noise tends to make answers longer, and judges prefer long answers: read win rates together with this section."
_CAPTION = "Answers: mean lengths, repeated n-grams, diversity (mean over the seeds)"
_SEEDS = "Diamond: mean over the seeds. Circles: each seed."
_UNLIKE = (
    "Repetition and diversity cover different numbers of words in these rows (--first-k-tokens). Longer texts repeat "
    "themselves more, so do not compare such rows."
)
_CHARTS = (
    ("mean_words", "answer-length", "Words per answer", "words"),
    ("repetition_2", "repetition", "Share of 2-grams that repeat an earlier one", "share of repeated 2-grams"),
    ("log_diversity", "diversity", "Log-diversity", "log-diversity"),
)


_tenths = partial(fixed, decimals=1)
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
    ("of the first words", "first_k_tokens", count),
    ("shorter, omitted", "n_short", count),
)


def texts(inputs: Inputs) -> PageSection | None:
    """Return the section; None without text statistics."""
    found = inputs.measured("text_statistics")
    blocks: list[Block] = []
    for key, slug, title, what in _CHARTS:
        rows = [_dot(item, key) for item in found if item.values(key)]
        if rows:
            has_seeds = any(len(row.points) > 1 for row in rows)
            blocks.append(Chart(slug, title, Dots(what, rows), _SEEDS if has_seeds else ""))
    if found:
        blocks.append(_table(_CAPTION, "answers of", found))
    if len({tuple(item.values("first_k_tokens")[:1]) for item in found}) > 1:
        blocks.append(Note(_UNLIKE, is_warning=True))
    for result in inputs.of_kind("length_ablation"):
        blocks.extend(_ablation(result))
    return PageSection("texts", "Length and repetition", _LEAD, blocks) if blocks else None


def _dot(item: Measured, key: str) -> Dot:
    return Dot(item.label, item.mean(key) or 0.0, points=item.values(key))


def _table(caption: str, of: str, found: Sequence[Measured]) -> Table:
    """Return a table without the columns that have no values."""
    columns = [column for column in _COLUMNS if any(item.values(column[1]) for item in found)]
    if not any(item.values("first_k_tokens") for item in found):
        columns = [column for column in columns if column[1] != "n_short"]
    rows = [[item.label, *(shown(item.mean(key)) for _, key, shown in columns)] for item in found]
    return Table(caption, [of, *(name for name, _, _ in columns)], rows)


def _ablation(result: Result) -> list[Block]:
    variants = result.fields.children("variants")
    if not variants:
        return []
    found = [Measured(one.text("name") or MISSING, [one]) for one in variants]
    asked = [f'{one.text("name")}: "{sentence}"' for one in variants if (sentence := one.text("sentence"))]
    blocked = [
        f"{one.text('name')}: at least {least:.0f} tokens"
        for one in variants
        if (least := one.number("min_new_tokens"))
    ]
    caption = f"Length ablation of {result.label}: the same model with other prompts or a minimum length"
    blocks: list[Block] = [_table(caption, "variant", found)]
    if asked or blocked:
        blocks.append(Note(f"Changes to the instruction or the decoding: {'; '.join([*asked, *blocked])}."))
    return blocks


_COPIES_LEAD = (
    "Greedy answers to training prompts, compared with the training answers: 1 is a word-for-word copy. Samples of all "
    "seeds are pooled."
)
_SCORES = (("rouge_l", "ROUGE-L"), ("bleu_4", "BLEU-4"))


def memorization(inputs: Inputs) -> PageSection | None:
    """Return the section; None without such measurements."""
    found = inputs.measured("memorization")
    if not found:
        return None
    # Samples count as near-copies by ROUGE-L.
    threshold = found[0].mean("near_copy_threshold") or 0.9
    blocks: list[Block] = []
    for key, name in _SCORES:
        groups = [(item.label, values) for item in found if (values := item.per_sample(key))]
        if groups:
            mark = (threshold, f"near-copies above {threshold:g}") if key == "rouge_l" else None
            # Some libraries report BLEU in percent.
            top = 1.0 if max(max(values) for _, values in groups) <= 1 else 100.0
            slug, title = key.replace("_", "-"), f"{name} of answers to training prompts"
            blocks.append(Chart(f"memorization-{slug}", title, Histogram(name, groups, (0.0, top), mark)))
    formats = {"mean_rouge_l": fixed, "mean_bleu_4": fixed, "near_copy_share": share, "n_total": count}
    rows = [[item.label, *(shown(item.mean(key)) for key, shown in formats.items())] for item in found]
    columns = ["answers of", "ROUGE-L", "BLEU-4", f"near-copies (above {threshold:g})", "samples each"]
    blocks.append(Table("Memorisation (mean over the seeds)", columns, rows))
    return PageSection("memorization", "Memorisation", _COPIES_LEAD, blocks)
