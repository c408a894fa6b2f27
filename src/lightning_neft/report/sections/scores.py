"""Verdicts from intervals, win rates, raw and at equal length, and benchmarks of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

from lightning_neft.evaluation.bootstrap import Interval, verdict
from lightning_neft.evaluation.pairs import LOWER_IS_BETTER
from lightning_neft.evaluation.result import Fields
from lightning_neft.report.content import MISSING, Block, Chart, Finding, Note, PageSection, Table, count, number
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.values import Dot, Dots

__all__ = ["capability", "finding", "metric_name", "win_rate_findings", "win_rates"]

_NAMES = {
    "held_out_loss": "held-out loss",
    "train_clean_loss": "training loss without noise",
    "mean_rouge_l": "ROUGE-L of answers to training prompts",
    "near_copy_share": "share of near-copies",
    "mean_characters": "characters per answer",
    "mean_words": "words per answer",
    "repetition_2": "share of repeated 2-grams",
}


def metric_name(metric: str) -> str:
    """Return the display name of a metric.

    Example:
        >>> metric_name("held_out_loss"), metric_name("some_other")
        ('held-out loss', 'some other')
    """
    return _NAMES.get(metric, metric.replace("_", " "))


def finding(subject: str, metric: str, interval: Interval) -> Finding:
    """Return the verdict on a metric from the interval of its difference.

    If neither direction is better, the sentence says higher or lower, not better or worse. That includes win rates:
    each is of one training, and does not separate the effect of the noise from that of the seed.

    Example:
        >>> found = finding("alpha 5", "mean_words", Interval(2.0, 1.0, 3.0, 0.95))
        >>> found.verdict, found.sentence
        ('different', 'higher by 2 (95 % interval 1 to 3)')
    """
    sentence = verdict(interval, lower_is_better=False)
    if interval.has_few_seeds:
        return Finding(subject, "no verdict", sentence)
    if not interval.is_evidence:
        return Finding(subject, "no evidence", sentence)
    if metric not in LOWER_IS_BETTER:
        return Finding(subject, "different", sentence)
    return Finding(subject, "better" if interval.mean < 0 else "worse", sentence)


_LEAD = (
    "A judge picks one of two answers to the same instruction; a draw counts as half a win, so 50 % means no "
    "preference. Judges prefer long answers, so compare the raw rate with the equal-length rate and with the mean "
    "lengths. The equal-length rate is estimated by this package's own model from these annotations: it is not the "
    "length-controlled win rate of AlpacaEval 2."
)

_LEVEL = 0.95
# Percent points that the axis of differences covers at least on each side.
_LEAST_POINTS = 5.0

_RATES = (
    ("raw", "win_rate", "standard_error"),
    ("equal-length", "length_controlled_win_rate", "length_controlled_standard_error"),
)


def win_rate_findings(inputs: Inputs) -> list[Finding]:
    """Return the verdict on each win rate against 50 %, and on each difference of two against 0."""
    found = []
    for result in inputs.of_kind("win_rate"):
        for name, rate, half in _rates(result.fields):
            if half is not None:
                interval = Interval(rate - 50, rate - 50 - half, rate - 50 + half, _LEVEL)
                subject = f"{_pair(result)}, {name} win rate {rate:.2f} %, compared with 50 %"
                found.append(finding(subject, "win_rate", interval))
    for result in inputs.of_kind("win_rate_difference"):
        for name, interval in _differences(result.fields):
            found.append(finding(f"{_pair(result)}, difference of their {name} win rates", "win_rate", interval))
    return found


def win_rates(inputs: Inputs) -> PageSection | None:
    """Return the section; None without win rates."""
    blocks = [*_of_rates(inputs.of_kind("win_rate")), *_of_differences(inputs.of_kind("win_rate_difference"))]
    return PageSection("win-rates", "Win rates", _LEAD, blocks) if blocks else None


def _of_rates(results: Sequence[Result]) -> list[Block]:
    if not results:
        return []
    dots = []
    for result in results:
        for name, rate, half in _rates(result.fields):
            ends = (None, None) if half is None else (rate - half, rate + half)
            dots.append(Dot(f"{name}: {result.label}", rate, *ends))
    blocks: list[Block] = []
    if dots:
        note = (
            "Diamond: win rate. Bar with caps: 95 % interval, the standard error times Student's quantile; none if all "
            "verdicts are the same."
        )
        plot = Dots("win rate in percent", dots, (50.0, "50 %"), ("loses", "wins"), least=50.0)
        blocks.append(Chart("win-rates", "Win rates with 95 % intervals", plot, note))
    columns = ["model", "against", "raw win rate, %", "equal-length, %", "wins", "losses", "draws", "of"]
    columns += ["characters", "characters of the other", "judge"]
    blocks.append(
        Table("Win rates, each with its standard error", columns, [_row(one) for one in results], frozenset({1, 10}))
    )
    return [*blocks, *_reasons(results, "rate")]


def _of_differences(results: Sequence[Result]) -> list[Block]:
    if not results:
        return []
    dots = [
        Dot(f"{name}: {result.label} - {result.fields.text('baseline_label') or 'other'}", one.mean, one.low, one.high)
        for result in results
        for name, one in _differences(result.fields)
    ]
    blocks: list[Block] = []
    if dots:
        note = (
            "Diamond: difference of two models against one baseline on the same instructions. Bar with caps: 95 % "
            "interval of the paired differences."
        )
        plot = Dots("difference in percent points", dots, (0.0, "no difference"), least=_LEAST_POINTS)
        blocks.append(Chart("win-rate-differences", "Differences of win rates", plot, note))
    columns = ["model", "minus", "raw", "equal-length", "instructions", "characters", "characters of the other"]
    rows = [_difference_row(result) for result in results]
    blocks.append(Table("Differences of win rates in percent points, with intervals", columns, rows, frozenset({1})))
    return [*blocks, *_reasons(results, "difference")]


def _reasons(results: Sequence[Result], what: str) -> list[Block]:
    return [
        Note(f"{_pair(result)}: no equal-length {what}, because {reason}")
        for result in results
        if (reason := result.fields.text("length_controlled_reason"))
    ]


def _rates(fields: Fields) -> list[tuple[str, float, float | None]]:
    """Return name, percentage and half the interval's width of each rate of a result.

    There is no interval if the standard error is missing, or is 0 because all verdicts are the same.
    """
    found = []
    for name, key, of_error in _RATES:
        if (rate := fields.number(key)) is not None:
            error, pairs, half = fields.number(of_error), fields.number("n_total"), None
            if error and pairs and pairs > 1:
                half = error * float(stats.t.ppf((1 + _LEVEL) / 2, pairs - 1))
            found.append((name, rate, half))
    return found


def _differences(fields: Fields) -> list[tuple[str, Interval]]:
    """Return name and interval, in percent points, of each difference of a result."""
    found = []
    for name, keys in (
        ("raw", ("difference", "low", "high")),
        ("equal-length", ("length_controlled_difference", "length_controlled_low", "length_controlled_high")),
    ):
        mean, low, high = (fields.number(key) for key in keys)
        if mean is not None and low is not None and high is not None:
            found.append((name, Interval(mean, low, high, fields.number("level") or _LEVEL)))
    return found


def _difference_row(result: Result) -> list[str]:
    fields = result.fields
    given = {name: f"{one.mean:.2f} ({one.low:.2f} to {one.high:.2f})" for name, one in _differences(fields)}
    return [
        result.label,
        fields.text("baseline_label") or MISSING,
        *(given.get(name, MISSING) for name, _, _ in _RATES),
        *(count(fields.number(key)) for key in ("n_total", "mean_characters", "baseline_mean_characters")),
    ]


def _row(result: Result) -> list[str]:
    fields = result.fields
    return [
        result.label,
        fields.text("baseline_label") or MISSING,
        *(_with_error(fields.number(rate), fields.number(error)) for _, rate, error in _RATES),
        *(count(fields.number(key)) for key in ("n_wins", "n_losses", "n_draws", "n_total")),
        *(count(fields.number(key)) for key in ("mean_characters", "baseline_mean_characters")),
        MISSING if (judge := fields.data.get("judge")) is None else str(judge),
    ]


def _with_error(rate: float | None, error: float | None) -> str:
    return MISSING if rate is None else f"{rate:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _pair(result: Result) -> str:
    return f"{result.label} against {result.fields.text('baseline_label') or 'the baseline'}"


# End of the name of a metric's standard error.
_ERROR = "_stderr"

_BENCHMARKS_LEAD = "Benchmarks of lm-evaluation-harness: one row per metric of each task, one column per model."


def capability(inputs: Inputs) -> PageSection | None:
    """Return the section; None without benchmarks."""
    results = inputs.of_kind("capability")
    if not results:
        return None
    values: dict[tuple[str, str], dict[int, str]] = {}
    for index, result in enumerate(results):
        tasks = result.fields.child("tasks") or Fields({}, "")
        for task, metrics in ((task, tasks.child(task)) for task in tasks.names()):
            for metric in metrics.names() if metrics else []:
                base, comma, chosen = metric.partition(",")
                if metrics and not base.endswith(_ERROR) and not isinstance(metrics.data[metric], (str, bool)):
                    error = metrics.number(f"{base}{_ERROR}{comma}{chosen}")
                    shown = "" if error is None else f" ± {number(error, digits=2)}"
                    values.setdefault((task, metric), {})[index] = number(metrics.number(metric)) + shown
    rows = [
        [task, metric, *(cells.get(index, MISSING) for index in range(len(results)))]
        for (task, metric), cells in values.items()
    ]
    columns = ["task", "metric", *(result.label for result in results)]
    blocks: list[Block] = [Table("Benchmarks, with standard errors", columns, rows, frozenset({1}))]
    for result in results:
        settings = result.provenance.child("settings")
        if settings and (limit := settings.number("limit")) is not None:
            text = f"only the first {limit:.0f} documents of each task; do not compare with published numbers."
            blocks.append(Note(f"{result.label}: {text}", is_warning=True))
    return PageSection("capability", "Benchmarks", _BENCHMARKS_LEAD, blocks)
