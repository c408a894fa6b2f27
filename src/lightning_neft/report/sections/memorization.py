"""Memorisation: how close answers to training prompts come to the training answers."""

from __future__ import annotations

from lightning_neft.report.content import Block, Chart, Section, Table
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import count, fixed, share
from lightning_neft.report.plots.histogram import Histogram
from lightning_neft.report.sections.measured import measured

__all__ = ["memorization"]

_LEAD = (
    "Greedy answers to training prompts beside the training answers: 1 is a copy, to the word. Samples of all seeds "
    "are taken together."
)
_SCORES = (("rouge_l", "ROUGE-L"), ("bleu_4", "BLEU-4"))


def memorization(inputs: Inputs) -> Section | None:
    """Return the section; None without such measurements."""
    found = measured(inputs, "memorization")
    if not found:
        return None
    # Samples count as near-copies by ROUGE-L.
    threshold = found[0].mean("near_copy_threshold") or 0.9
    blocks: list[Block] = []
    for key, name in _SCORES:
        groups = [(item.label, values) for item in found if (values := item.per_sample(key))]
        if groups:
            mark = (threshold, f"near-copies above {threshold:g}") if key == "rouge_l" else None
            # BLEU is told in percent by some libraries.
            top = 1.0 if max(max(values) for _, values in groups) <= 1 else 100.0
            slug, title = key.replace("_", "-"), f"{name} of answers to training prompts"
            blocks.append(Chart(f"memorization-{slug}", title, Histogram(name, groups, (0.0, top), mark)))
    rows = [
        [
            item.label,
            fixed(item.mean("mean_rouge_l")),
            fixed(item.mean("mean_bleu_4")),
            share(item.mean("near_copy_share")),
            count(item.mean("n_total")),
        ]
        for item in found
    ]
    columns = ["answers of", "ROUGE-L", "BLEU-4", f"near-copies (above {threshold:g})", "samples each"]
    blocks.append(Table("Memorisation (mean over the seeds)", columns, rows))
    return Section("memorization", "Memorisation", _LEAD, blocks)
