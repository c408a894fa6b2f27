"""`evaluate --annotations`: win rates from a judge's annotations, and the paired difference between models."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser

__all__ = ["add_options", "run", "show", "takes_config"]

takes_config = False


def add_options(parser: VerbParser) -> None:
    """Add the options of this kind."""
    parser.add_argument("--annotations", type=Path, nargs="+", action="extend", required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)


def run(options: Namespace) -> list[dict[str, Any]]:
    """Return a win rate for each file, then the difference of each further model and the first.

    Raises:
        DataError: A file is none of annotations, or two are not about the same instructions and baseline.
    """
    from lightning_neft.evaluation.annotations import difference_result, read_judged, win_rate_result

    judged = [read_judged(path) for path in options.annotations]
    differences = [difference_result(judged[0], other, seed=options.seed) for other in judged[1:]]
    return [*map(win_rate_result, judged), *differences]


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result for people."""
    if result["kind"] == "win_rate_difference":
        _show_difference(result, console)
        return
    console.print(
        Text(
            f"{result['label']} against {result['baseline_label']}, judged by {result['judge']}: {result['n_total']} "
            f"pairs, {result['n_wins']} wins, {result['n_losses']} losses, {result['n_draws']} draws"
        )
    )
    if result["n_unjudged"]:
        console.print(Text(f"{result['n_unjudged']} pairs without a verdict omitted", style="yellow"))
    table = Table("win rate", "%", "standard error", box=None)
    table.add_row("raw", f"{result['win_rate']:.4f}", _error(result["standard_error"]))
    rate = result["length_controlled_win_rate"]
    table.add_row(
        "at equal length (own model)",
        "-" if rate is None else f"{rate:.4f}",
        _error(result["length_controlled_standard_error"]),
    )
    console.print(table)
    if rate is None:
        console.print(Text(f"no rate at equal length: {result['length_controlled_reason']}", style="yellow"))
    console.print(
        Text(
            f"mean length: {result['mean_characters']:.0f} characters, baseline "
            f"{result['baseline_mean_characters']:.0f}; the rate at equal length is not AlpacaEval 2's"
        )
    )


def _show_difference(result: dict[str, Any], console: Console) -> None:
    from lightning_neft.evaluation.bootstrap import Interval, verdict

    interval = Interval(result["difference"], result["low"], result["high"], result["level"])
    console.print(
        Text(
            f"{result['label']} minus {result['baseline_label']}, win rate in percent points over {result['n_total']} "
            f"pairs: {verdict(interval, lower_is_better=False)}"
        )
    )
    if reason := result["length_controlled_reason"]:
        console.print(Text(f"no difference at equal length: {reason}", style="yellow"))
    else:
        mean, low, high = (result[f"length_controlled_{name}"] for name in ("difference", "low", "high"))
        said = verdict(Interval(mean, low, high, result["level"]), lower_is_better=False)
        console.print(Text(f"at equal length (own model): {said}"))
    console.print(
        Text(
            f"mean length: {result['mean_characters']:.0f} characters, {result['baseline_label']} "
            f"{result['baseline_mean_characters']:.0f}"
        )
    )


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
