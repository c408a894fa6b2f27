"""Win rates: raw and length-controlled side by side, with the lengths that they are to be read by."""

from __future__ import annotations

from lightning_neft.evaluation.bootstrap import Interval
from lightning_neft.report.content import Chart, Finding, Note, Section, Table
from lightning_neft.report.fields import Fields
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.numbers import MISSING, count
from lightning_neft.report.plots.dots import Dot, Dots
from lightning_neft.report.verdicts import finding

__all__ = ["win_rate_findings", "win_rates"]

_LEAD = (
    "A judge picks the better of two answers to the same instruction; a draw counts as half a win. Judges like long "
    "answers, so a rate at equal length stands beside the raw one, and the mean lengths beside both. "
    "That length-controlled rate is by this package's own model, fitted on the annotations at hand: it is not that "
    "of AlpacaEval 2."
)
# Half width of a normal interval of 95 %, in standard errors.
_NORMAL = 1.959964
_RATES = (
    ("raw", "win_rate", "standard_error"),
    ("length-controlled", "length_controlled_win_rate", "length_controlled_standard_error"),
)


def win_rate_findings(inputs: Inputs) -> list[Finding]:
    """Return what each win rate tells against an even one, and each difference of two against none."""
    found = []
    for result in inputs.of_kind("win_rate"):
        for name, rate, error in _rates(result.fields):
            if error is not None:
                interval = Interval(rate - 50, rate - 50 - _NORMAL * error, rate - 50 + _NORMAL * error, 0.95)
                subject = f"{_pair(result)}, {name} win rate {rate:.2f} %, over 50 %"
                found.append(finding(subject, "win_rate", interval))
    for result in inputs.of_kind("win_rate_difference"):
        fields = result.fields
        mean, low, high = (fields.number(key) for key in ("difference", "low", "high"))
        if mean is not None and low is not None and high is not None:
            interval = Interval(mean, low, high, fields.number("level") or 0.95)
            found.append(finding(f"{_pair(result)}, difference of their win rates", "win_rate", interval))
    return found


def win_rates(inputs: Inputs) -> Section | None:
    """Return the section; None without win rates."""
    results = inputs.of_kind("win_rate")
    if not results:
        return None
    dots = [
        Dot(
            f"{result.label}, {name}",
            rate,
            None if error is None else rate - _NORMAL * error,
            None if error is None else rate + _NORMAL * error,
        )
        for result in results
        for name, rate, error in _rates(result.fields)
    ]
    section = Section("win-rates", "Win rates", _LEAD)
    if dots:
        section.blocks.append(
            Chart(
                "win-rates",
                "Win rates with intervals of 95 %",
                Dots("win rate in percent", dots, (50.0, "even")),
                "Intervals are 1.96 standard errors to each side.",
            )
        )
    columns = ["model", "against", "win rate, %", "length-controlled, %", "wins", "losses", "draws", "of"]
    columns += ["characters", "characters of the other", "judge"]
    section.blocks.append(
        Table("Win rates, each with its standard error", columns, [_row(one) for one in results], frozenset({1, 10}))
    )
    for result in results:
        if reason := result.fields.text("length_controlled_reason"):
            section.blocks.append(Note(f"{result.label} has no length-controlled rate: {reason}"))
    return section


def _rates(fields: Fields) -> list[tuple[str, float, float | None]]:
    """Name, rate and standard error, in percent, of the rates that a result has."""
    return [
        (name, rate, fields.number(error)) for name, key, error in _RATES if (rate := fields.number(key)) is not None
    ]


def _row(result: Result) -> list[str]:
    fields = result.fields
    given = {name: f"{rate:.2f}" + ("" if error is None else f" ± {error:.2f}") for name, rate, error in _rates(fields)}
    return [
        result.label,
        fields.text("baseline_label") or MISSING,
        *(given.get(name, MISSING) for name, _, _ in _RATES),
        *(count(fields.number(key)) for key in ("n_wins", "n_losses", "n_draws", "n_total")),
        *(count(fields.number(key)) for key in ("mean_characters", "baseline_mean_characters")),
        _judge(fields),
    ]


def _judge(fields: Fields) -> str:
    judge = fields.data.get("judge")
    return judge if isinstance(judge, str) else MISSING if judge is None else str(judge)


def _pair(result: Result) -> str:
    return f"{result.label} against {result.fields.text('baseline_label') or 'the baseline'}"
