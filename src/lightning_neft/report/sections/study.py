"""The sections on a study: the summary, each comparison with its interval and verdict, and the table of arms."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from lightning_neft.common.secrets import mask_text
from lightning_neft.evaluation.bootstrap import MIN_SEEDS
from lightning_neft.evaluation.choice import Choice
from lightning_neft.evaluation.pairs import HELD_OUT_LOSS, LOWER_IS_BETTER, METRICS
from lightning_neft.evaluation.result import Fields
from lightning_neft.evaluation.study_result import ArmResult, ArmState, Comparison, StudyResult
from lightning_neft.report.content import (
    MISSING,
    Block,
    Chart,
    Finding,
    Findings,
    Heading,
    Note,
    PageSection,
    Table,
    alpha_name,
    count,
    fixed,
    seeds_name,
    share,
)
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.sections.scores import finding, metric_name, win_rate_findings
from lightning_neft.report.sections.studies import between_studies
from lightning_neft.report.values import Dot, Dots

__all__ = ["arm_table", "summary"]

_PAIRED = "Differences between arms are taken from the baseline in pairs: same seed, same samples. "
_LEAD = (
    "If an interval includes 0, there is no evidence of a difference, whatever the mean; this does not prove that "
    "there is none."
)
_LEAST_SHARE = 0.02
_UNFINISHED: tuple[ArmState, ...] = ("failed", "pruned", "waiting")


def summary(inputs: Inputs) -> PageSection | None:
    """Return the summary; None if nothing was compared."""
    section = PageSection("summary", "Summary", (_PAIRED if inputs.studies else "") + _LEAD)
    for study, choice in zip(inputs.studies, inputs.choices, strict=True):
        section.blocks.extend(_of_study(study, choice, inputs.prefix(study, ": ")))
    for other in inputs.studies[1:]:
        if (between := between_studies(inputs.studies[0], other)) and between.findings:
            section.blocks.append(between)
    if found := win_rate_findings(inputs):
        section.blocks.append(Findings("Win rates", found))
    return section if section.blocks else None


def _of_study(study: StudyResult, choice: Choice, of: str) -> list[Block]:
    blocks: list[Block] = []
    by_metric: dict[str, list[Comparison]] = {}
    for one in study.comparisons:
        by_metric.setdefault(one.metric, []).append(one)
    for metric, comparisons in by_metric.items():
        name = metric_name(metric)
        found = [
            _finding(
                f"{alpha_name(one.alpha)} against {alpha_name(one.baseline)}, {seeds_name(one.n_seeds)}", one, choice
            )
            for one in comparisons
        ]
        blocks.append(Findings(f"{of}{_headline(name, comparisons, found)}", found))
        rows = [Dot(alpha_name(one.alpha), one.difference, one.low, one.high) for one in comparisons]
        title = f"{of}Difference in {name} to {alpha_name(comparisons[0].baseline)}"
        reference = (0.0, "no difference")
        plot = Dots(f"difference in {name}", rows, reference, _sides(comparisons), _least(study, metric))
        blocks.append(Chart(f"difference-{metric.replace('_', '-')}", title, plot, _basis(comparisons)))
    if not blocks:
        blocks.append(
            Note(f"{of}Nothing was compared: a comparison needs a finished baseline and another finished alpha.")
        )
    return [*blocks, *_cautions(study, choice, of)]


def _finding(subject: str, one: Comparison, choice: Choice) -> Finding:
    """Return the verdict; on the held-out loss never a more certain one than the page's first sentence."""
    found = finding(subject, one.metric, one.interval)
    corrected = choice.intervals.get(one.alpha) if one.metric == HELD_OUT_LOSS else None
    if found.verdict not in ("better", "worse") or corrected is None or corrected.is_evidence:
        return found
    text = f"no evidence of a difference after correction for {choice.compared} alphas; without it {found.sentence}"
    return Finding(subject, "no evidence", text)


def _sides(comparisons: Sequence[Comparison]) -> tuple[str, str] | None:
    """Return what less and more mean; without enough seeds neither is called better."""
    if comparisons[0].metric not in LOWER_IS_BETTER:
        return None
    return ("lower", "higher") if all(one.interval.has_few_seeds for one in comparisons) else ("better", "worse")


def _least(study: StudyResult, metric: str) -> float:
    """Return the difference that the axis covers at least, a share of the baseline's mean."""
    if metric not in METRICS:
        return 0.0
    values = [value for arm in study.of_alpha(0) for value in METRICS[metric](arm)]
    return _LEAST_SHARE * abs(fmean(values)) if values else 0.0


def _headline(name: str, comparisons: Sequence[Comparison], found: Sequence[Finding]) -> str:
    alphas: dict[str, list[str]] = {}
    for one, item in zip(comparisons, found, strict=True):
        alphas.setdefault(item.verdict, []).append(alpha_name(one.alpha))
    name = name[0].upper() + name[1:]
    if list(alphas) == ["no evidence"]:
        return f"{name}: no evidence of a difference at any alpha"
    words = {
        "better": "better",
        "worse": "worse",
        "different": "different",
        "no evidence": "no evidence of a difference",
        "no verdict": f"no verdict from fewer than {MIN_SEEDS} seeds",
    }
    parts = [f"{words[verdict]} with {', '.join(alphas[verdict])}" for verdict in words if verdict in alphas]
    return f"{name}: {'; '.join(parts)}"


def _basis(comparisons: Sequence[Comparison]) -> str:
    samples = sorted({one.n_samples for one in comparisons if one.n_samples})
    text = (
        f"Diamond: mean. Bar with caps: {100 * comparisons[0].level:g} % bootstrap interval over "
        f"{seeds_name(*(one.n_seeds for one in comparisons))}"
    )
    return text + (f" and {' or '.join(map(str, samples))} samples." if samples else ".")


def _cautions(study: StudyResult, choice: Choice, of: str) -> list[Note]:
    notes = []
    comparisons = study.comparisons
    if comparisons and min(one.n_seeds for one in comparisons) < MIN_SEEDS:
        text = f"Fewer than {MIN_SEEDS} seeds give no verdict: the spread between seeds is not known well enough."
        notes.append(Note(of + text, is_warning=True))
    if choice.compared > 1 and not all(found.has_few_seeds for found in choice.intervals.values()):
        text = f"The verdicts on held-out loss are corrected for {choice.compared} alphas (Holm's method)"
        notes.append(Note(f"{of}{text}; the intervals of the plots are those of single comparisons."))
    uncorrected = [one for one in comparisons if not (one.metric == HELD_OUT_LOSS and one.alpha in choice.intervals)]
    if len(uncorrected) > 1:
        one_in = round(1 / max(1e-6, 1 - uncorrected[0].level))
        text = f"{len(uncorrected)} comparisons are not corrected for their number: "
        notes.append(Note(f"{of}{text}about one in {one_in} shows a difference by chance alone."))
    compared = {alpha for one in comparisons for alpha in (one.alpha, one.baseline)}
    if compared and (omitted := [alpha_name(alpha) for alpha in study.alphas if alpha not in compared]):
        notes.append(Note(f"{of}Not compared: {', '.join(omitted)}.", is_warning=True))
    if unfinished := study.in_state(*_UNFINISHED):
        arms = "; ".join(f"{arm.name} ({arm.state})" for arm in unfinished)
        notes.append(Note(f"{of}{len(unfinished)} of {len(study.arms)} arms did not finish: {arms}.", is_warning=True))
    return notes


_ARMS_LEAD = (
    "Arms with the same seed differ only in the noise: same data order, initialisation and dropout. Losses are "
    "measured without noise and are means over samples, each with the same weight, as are the differences in the "
    "summary. The gap is held-out loss minus training loss."
)
_COLUMNS = ("arm", "state", "held-out loss", "training loss", "gap", "words", "repeated 2-grams", "ROUGE-L", "seconds")


def arm_table(inputs: Inputs) -> PageSection | None:
    """Return the section; None without a study."""
    section = PageSection("arms", "Arms", _ARMS_LEAD)
    for study in inputs.studies:
        if len(inputs.studies) > 1:
            section.blocks.append(Heading(study.label))
        rows = [_row(arm) for arm in study.arms]
        # Without the columns that have no values.
        kept = [index for index in range(len(_COLUMNS)) if any(row[index] != MISSING for row in rows)]
        columns, *rows = ([row[index] for index in kept] for row in (_COLUMNS, *rows))
        caption = f"Arms of {study.recipe}" if study.recipe else "Arms"
        section.blocks.append(Table(caption, columns, rows, frozenset({1})))
        if stopped := study.in_state(*_UNFINISHED):
            rows = [
                [arm.name, arm.state, mask_text(arm.error or "") or MISSING, arm.folder or MISSING] for arm in stopped
            ]
            columns = ["arm", "state", "reason", "folder"]
            section.blocks.append(Table("Arms that did not finish", columns, rows, frozenset({1, 2, 3})))
    return section if section.blocks else None


def _row(arm: ArmResult) -> list[str]:
    gap = None
    if arm.held_out_loss is not None and arm.train_clean_loss is not None:
        gap = arm.held_out_loss - arm.train_clean_loss
    return [
        arm.name,
        arm.state,
        *(fixed(value) for value in (arm.held_out_loss, arm.train_clean_loss, gap)),
        fixed(_of(arm.text_statistics, "mean_words"), decimals=1),
        share(_of(arm.text_statistics, "repetition_2")),
        fixed(_of(arm.memorization, "mean_rouge_l")),
        count(arm.seconds),
    ]


def _of(fields: Fields | None, key: str) -> float | None:
    return None if fields is None else fields.number(key)
