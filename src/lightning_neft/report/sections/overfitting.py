"""Overfitting: losses of training and held-out samples without noise, and answers that copy the training data."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_neft.evaluation.fields import Fields
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.report.content import Block, Chart, PageSection, Table
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.numbers import alpha_name, count, fixed, share
from lightning_neft.report.plots.histogram import Histogram

__all__ = ["memorization", "overfitting"]

_LEAD = (
    "Mean loss over a sample's trained tokens, noise off. A model that has memorised its training samples has low "
    "losses on them and higher ones on held-out samples. Samples of all seeds of a study are pooled."
)
_Group = tuple[str, tuple[float, ...]]


def overfitting(inputs: Inputs) -> PageSection | None:
    """Return the section; None without losses of samples."""
    results = inputs.of_kind("clean_loss")
    blocks: list[Block] = []
    if results:
        rows = [row for result in results for row in _rows(result)]
        columns = ["model", "split", "loss, mean over tokens", "samples"]
        blocks.append(Table("Losses without noise", columns, rows, frozenset({1})))
    splits: dict[str, list[_Group]] = {}
    for split, group in _all_groups(inputs):
        splits.setdefault(split, []).append(group)
    all_values = [value for groups in splits.values() for _, values in groups for value in values]
    for split, groups in splits.items():
        # A common axis makes training and held-out samples comparable.
        plot = Histogram("loss of a sample", groups, (min(all_values), max(all_values)))
        name = _name(split)
        blocks.append(Chart(f"clean-loss-{name}", f"Losses of {name} samples", plot))
    return PageSection("overfitting", "Overfitting", _LEAD, blocks) if blocks else None


def _all_groups(inputs: Inputs) -> Iterator[tuple[str, _Group]]:
    """Split, and a label with the losses of its samples: by alpha for studies, then the results."""
    for study in inputs.studies:
        of = f"{study.label}, " if len(inputs.studies) > 1 else ""
        for split in ("train", "held_out"):
            for alpha in study.alphas:
                if values := _of_alpha(study, alpha, split):
                    yield split, (f"{of}{alpha_name(alpha)}", values)
    for result in inputs.of_kind("clean_loss"):
        for split, fields in _splits(result):
            if values := fields.numbers("per_sample"):
                yield split, (result.label, values)


def _of_alpha(study: StudyResult, alpha: float, split: str) -> tuple[float, ...]:
    arms = study.of_alpha(alpha)
    lists = [arm.train_per_sample if split == "train" else arm.held_out_per_sample for arm in arms]
    return tuple(value for values in lists for value in values)


def _splits(result: Result) -> list[tuple[str, Fields]]:
    splits = result.fields.child("splits")
    return [(name, fields) for name in splits.names() if (fields := splits.child(name))] if splits else []


def _name(split: str) -> str:
    return "training" if split == "train" else split.replace("_", "-")


def _rows(result: Result) -> list[list[str]]:
    return [
        [result.label, _name(split), fixed(fields.number("mean_loss")), count(fields.number("n_samples"))]
        for split, fields in _splits(result)
    ]


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
    return PageSection("memorization", "Memorisation", _COPIES_LEAD, blocks)
