"""The summary: each comparison with its interval and verdict."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.evaluation.bootstrap import MIN_SEEDS
from lightning_neft.evaluation.study_result import Comparison, StudyResult
from lightning_neft.report.content import Block, Chart, Finding, Findings, Note, PageSection
from lightning_neft.report.difference import finding, metric_name
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import alpha_name
from lightning_neft.report.plots.dots import Dot, Dots
from lightning_neft.report.sections.win_rates import win_rate_findings

__all__ = ["summary"]

_PAIRED = "Differences between arms are taken from the baseline in pairs: same seed, same samples. "
_LEAD = (
    "If an interval includes 0, there is no evidence of a difference, whatever the mean; this does not prove that "
    "there is none."
)


def summary(inputs: Inputs) -> PageSection | None:
    """Return the summary; None where nothing was compared."""
    section = PageSection("summary", "Summary", (_PAIRED if inputs.studies else "") + _LEAD)
    for study in inputs.studies:
        section.blocks.extend(_of_study(study, several=len(inputs.studies) > 1))
    if found := win_rate_findings(inputs):
        section.blocks.append(Findings("Win rates", found))
    return section if section.blocks else None


def _of_study(study: StudyResult, several: bool) -> list[Block]:
    of = f"{study.label}: " if several else ""
    blocks: list[Block] = []
    for metric, comparisons in _by_metric(study).items():
        name = metric_name(metric)
        found = [
            finding(
                f"{alpha_name(one.alpha)} against {alpha_name(one.baseline)}, {_seeds(one.n_seeds)}",
                metric,
                one.interval,
            )
            for one in comparisons
        ]
        blocks.append(Findings(f"{of}{_headline(name, comparisons, found)}", found))
        rows = [Dot(alpha_name(one.alpha), one.difference, one.low, one.high) for one in comparisons]
        title = f"{of}Difference in {name} to {alpha_name(comparisons[0].baseline)}"
        plot = Dots(f"difference in {name}", rows, (0.0, "none"))
        blocks.append(Chart(f"difference-{metric.replace('_', '-')}", title, plot, _basis(comparisons)))
    if not blocks:
        blocks.append(
            Note(f"{of}Nothing was compared: a comparison needs a finished baseline and another finished alpha.")
        )
    blocks.extend(_cautions(study, of))
    return blocks


def _headline(name: str, comparisons: Sequence[Comparison], found: Sequence[Finding]) -> str:
    alphas: dict[str, list[str]] = {}
    for one, item in zip(comparisons, found, strict=True):
        alphas.setdefault(item.verdict, []).append(alpha_name(one.alpha))
    name = name[0].upper() + name[1:]
    if len(alphas) == 1 and "no evidence" in alphas:
        return f"{name}: no evidence of a difference at any alpha"
    words = {
        "better": "better",
        "worse": "worse",
        "different": "different",
        "no evidence": "no evidence of a difference",
        "no verdict": f"no verdict from fewer than {MIN_SEEDS} seeds",
    }
    parts = [f"{said} with {', '.join(alphas[verdict])}" for verdict, said in words.items() if verdict in alphas]
    return f"{name}: {'; '.join(parts)}"


def _basis(comparisons: Sequence[Comparison]) -> str:
    seeds = sorted({one.n_seeds for one in comparisons})
    samples = sorted({one.n_samples for one in comparisons if one.n_samples})
    text = f"Bootstrap intervals over {' or '.join([*map(str, seeds[:-1]), _seeds(seeds[-1])])}"
    return text + (f" and {' or '.join(map(str, samples))} samples." if samples else ".")


def _seeds(n_seeds: int) -> str:
    return "1 seed" if n_seeds == 1 else f"{n_seeds} seeds"


def _cautions(study: StudyResult, of: str) -> list[Block]:
    blocks: list[Block] = []
    if study.comparisons and min(one.n_seeds for one in study.comparisons) < MIN_SEEDS:
        blocks.append(
            Note(
                f"{of}Fewer than {MIN_SEEDS} seeds give no verdict: the spread between seeds is not known well enough.",
                is_warning=True,
            )
        )
    if (n_comparisons := len(study.comparisons)) > 1:
        one_in = round(1 / max(1e-6, 1 - study.comparisons[0].level))
        blocks.append(
            Note(
                f"{of}These are {n_comparisons} comparisons, not corrected for their number: "
                f"about one in {one_in} shows a difference by chance alone."
            )
        )
    compared = {alpha for one in study.comparisons for alpha in (one.alpha, one.baseline)}
    if compared and (omitted := [alpha_name(alpha) for alpha in study.alphas if alpha not in compared]):
        blocks.append(Note(f"{of}Not compared: {', '.join(omitted)}.", is_warning=True))
    if unfinished := study.in_state("failed", "pruned", "waiting"):
        arms = "; ".join(f"{arm.name} ({arm.state})" for arm in unfinished)
        blocks.append(Note(f"{of}{len(unfinished)} of {len(study.arms)} arms did not finish: {arms}.", is_warning=True))
    return blocks


def _by_metric(study: StudyResult) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = {}
    for comparison in study.comparisons:
        found.setdefault(comparison.metric, []).append(comparison)
    return found
