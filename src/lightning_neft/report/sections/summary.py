"""The summary: what was compared, and what the intervals tell."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.report.arms import Comparison, Study
from lightning_neft.report.content import Block, Chart, Finding, Findings, Note, Section
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import alpha_name
from lightning_neft.report.plots.dots import Dot, Dots
from lightning_neft.report.sections.win_rates import win_rate_findings
from lightning_neft.report.verdicts import finding, metric_name

__all__ = ["summary"]

_PAIRED = "Differences between arms are to the baseline, pair by pair: same seed, same samples. "
_LEAD = (
    "Where an interval holds 0 there is no evidence of a difference, whatever the mean is; that is no evidence that "
    "there is none."
)


def summary(inputs: Inputs) -> Section | None:
    """Return the summary; None where nothing was compared."""
    section = Section("summary", "Summary", (_PAIRED if inputs.studies else "") + _LEAD)
    for study in inputs.studies:
        section.blocks.extend(_of_study(study, several=len(inputs.studies) > 1))
    if found := win_rate_findings(inputs):
        section.blocks.append(Findings("Win rates", found))
    return section if section.blocks else None


def _of_study(study: Study, several: bool) -> list[Block]:
    of = f"{study.label}: " if several else ""
    blocks: list[Block] = []
    for metric, comparisons in _by_metric(study).items():
        name = metric_name(metric)
        found = [
            finding(f"{alpha_name(one.alpha)} against {alpha_name(one.baseline)}", metric, _interval(one))
            for one in comparisons
        ]
        blocks.append(Findings(f"{of}{_headline(name, comparisons, found)}", found))
        rows = [Dot(alpha_name(one.alpha), one.difference, one.low, one.high) for one in comparisons]
        title = f"{of}Difference in {name} to {alpha_name(comparisons[0].baseline)}"
        plot = Dots(f"difference in {name}", rows, (0.0, "none"))
        blocks.append(Chart(f"difference-{metric.replace('_', '-')}", title, plot, _basis(comparisons)))
    if not blocks:
        blocks.append(Note(f"{of}Nothing was compared: that takes a baseline and an alpha that came to their end."))
    blocks.extend(_cautions(study, of))
    return blocks


def _headline(name: str, comparisons: Sequence[Comparison], found: Sequence[Finding]) -> str:
    told = [(one, item) for one, item in zip(comparisons, found, strict=True) if item.tells != "no evidence"]
    name = name[0].upper() + name[1:]
    if not told:
        return f"{name}: no evidence of a difference at any alpha"
    words = {"better": "better", "worse": "worse", "different": "different"}
    parts = [
        f"{words[tells]} with {', '.join(alpha_name(one.alpha) for one, item in told if item.tells == tells)}"
        for tells in words
        if any(item.tells == tells for _, item in told)
    ]
    if len(told) < len(found):
        rest = ", ".join(
            alpha_name(one.alpha) for one, item in zip(comparisons, found, strict=True) if item.tells == "no evidence"
        )
        parts.append(f"no evidence of a difference with {rest}")
    return f"{name}: {'; '.join(parts)}"


def _basis(comparisons: Sequence[Comparison]) -> str:
    seeds = sorted({one.n_seeds for one in comparisons})
    samples = sorted({one.n_samples for one in comparisons if one.n_samples})
    text = f"Bootstrap intervals over {' or '.join(map(str, seeds))} {'seed' if seeds == [1] else 'seeds'}"
    return text + (f" and {' or '.join(map(str, samples))} samples." if samples else ".")


def _cautions(study: Study, of: str) -> list[Block]:
    blocks: list[Block] = []
    if study.comparisons and min(one.n_seeds for one in study.comparisons) == 1:
        blocks.append(
            Note(
                f"{of}With a single seed an interval tells of the samples alone: another seed may give another answer.",
                is_warning=True,
            )
        )
    if (n_comparisons := len(study.comparisons)) > 1:
        one_in = round(1 / max(1e-6, 1 - study.comparisons[0].level))
        blocks.append(
            Note(
                f"{of}These are {n_comparisons} comparisons, not corrected for their number: "
                f"about one in {one_in} shows a difference by chance where there is none."
            )
        )
    compared = {alpha for one in study.comparisons for alpha in (one.alpha, one.baseline)}
    if compared and (left_out := [alpha_name(alpha) for alpha in study.alphas if alpha not in compared]):
        blocks.append(Note(f"{of}Not compared: {', '.join(left_out)}.", is_warning=True))
    if unfinished := study.in_state("failed", "pruned", "waiting"):
        arms = "; ".join(f"{arm.name} ({arm.state})" for arm in unfinished)
        blocks.append(
            Note(f"{of}{len(unfinished)} of {len(study.arms)} arms did not come to their end: {arms}.", is_warning=True)
        )
    return blocks


def _by_metric(study: Study) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = {}
    for comparison in study.comparisons:
        found.setdefault(comparison.metric, []).append(comparison)
    return found


def _interval(comparison: Comparison) -> Interval:
    return Interval(comparison.difference, comparison.low, comparison.high, comparison.level)
