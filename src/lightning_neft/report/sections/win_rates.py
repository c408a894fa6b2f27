"""Win rates: raw and length-controlled, with the mean lengths."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.evaluation.fields import Fields
from lightning_neft.report.content import Block, Chart, Finding, Note, PageSection, Table
from lightning_neft.report.difference import finding
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.numbers import MISSING, count
from lightning_neft.report.plots.dots import Dot, Dots

__all__ = ["win_rate_findings", "win_rates"]

_LEAD = (
    "A judge picks the better of two answers to the same instruction; a draw counts as half a win. Judges prefer long "
    "answers, so compare the raw rate with the rate at equal length and with the mean lengths. The length-controlled "
    "rate is estimated by this package's own model from these annotations: it is not that of AlpacaEval 2."
)
_LEVEL = 0.95
_RATES = (
    ("raw", "win_rate", "standard_error"),
    ("length-controlled", "length_controlled_win_rate", "length_controlled_standard_error"),
)


def win_rate_findings(inputs: Inputs) -> list[Finding]:
    """Return the verdict on each win rate against 50 %, and on each difference of two against 0."""
    found = []
    for result in inputs.of_kind("win_rate"):
        for name, rate, half in _rates(result.fields):
            if half is not None:
                interval = Interval(rate - 50, rate - 50 - half, rate - 50 + half, _LEVEL)
                subject = f"{_pair(result)}, {name} win rate {rate:.2f} %, over 50 %"
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
    dots = [
        Dot(
            f"{name}: {result.label}",
            rate,
            None if half is None else rate - half,
            None if half is None else rate + half,
        )
        for result in results
        for name, rate, half in _rates(result.fields)
    ]
    blocks: list[Block] = []
    if dots:
        blocks.append(
            Chart(
                "win-rates",
                "Win rates with intervals of 95 %",
                Dots("win rate in percent", dots, (50.0, "even")),
                "Intervals are standard errors times Student's quantile; omitted if all verdicts are the same.",
            )
        )
    columns = ["model", "against", "win rate, %", "length-controlled, %", "wins", "losses", "draws", "of"]
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
        note = "Both models against one baseline on the same instructions; the intervals are of paired differences."
        plot = Dots("difference in percent points", dots, (0.0, "none"))
        blocks.append(Chart("win-rate-differences", "Differences of win rates", plot, note))
    columns = ["model", "minus", "raw", "length-controlled", "instructions", "characters", "characters of the other"]
    rows = [_difference_row(result) for result in results]
    blocks.append(Table("Differences of win rates in percent points, with intervals", columns, rows, frozenset({1})))
    return [*blocks, *_reasons(results, "difference")]


def _reasons(results: Sequence[Result], what: str) -> list[Block]:
    return [
        Note(f"{_pair(result)}: no length-controlled {what}, because {reason}")
        for result in results
        if (reason := result.fields.text("length_controlled_reason"))
    ]


def _rates(fields: Fields) -> list[tuple[str, float, float | None]]:
    """Name and rate, in percent, of the rates that a result has, and half the width of the interval.

    There is none if the standard error is missing, or is 0 because all verdicts are the same: that is not certainty.
    """
    found = []
    for name, key, of_error in _RATES:
        if (rate := fields.number(key)) is not None:
            error, pairs = fields.number(of_error), fields.number("n_total")
            found.append((name, rate, error * _student(pairs) if error and pairs and pairs > 1 else None))
    return found


def _student(pairs: float) -> float:
    """Return how many standard errors an interval has to each side."""
    from scipy import stats

    return float(stats.t.ppf((1 + _LEVEL) / 2, pairs - 1))


def _differences(fields: Fields) -> list[tuple[str, Interval]]:
    """Name and interval, in percent points, of the differences that a result has."""
    found = []
    for name, keys in (
        ("raw", ("difference", "low", "high")),
        ("length-controlled", ("length_controlled_difference", "length_controlled_low", "length_controlled_high")),
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
        _judge(fields),
    ]


def _with_error(rate: float | None, error: float | None) -> str:
    return MISSING if rate is None else f"{rate:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _judge(fields: Fields) -> str:
    judge = fields.data.get("judge")
    return judge if isinstance(judge, str) else MISSING if judge is None else str(judge)


def _pair(result: Result) -> str:
    return f"{result.label} against {result.fields.text('baseline_label') or 'the baseline'}"
