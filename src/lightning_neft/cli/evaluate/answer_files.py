"""Kinds of evaluation that read files alone: `--outputs`, statistics of texts, and `--annotations`, win rates."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser

if TYPE_CHECKING:
    from lightning_neft.evaluation.records import Output

__all__ = ["AnnotationsKind", "OutputsKind", "show_win_rate"]


class OutputsKind:
    """`evaluate --outputs`: length, repetition and diversity of answers."""

    takes_config = False

    def add_options(self, parser: VerbParser) -> None:
        """Add the options of this kind."""
        parser.add_argument("--outputs", type=Path, nargs="+", action="extend", required=True, metavar="FILE")
        parser.add_argument("--first-k-tokens", type=int, metavar="K")
        parser.add_argument("--tokenizer", metavar="NAME")
        parser.add_argument("--trust-remote-code", action="store_true")

    def run(self, options: Namespace) -> list[dict[str, Any]]:
        """Return one result for each file.

        Raises:
            ConfigError: An option is wrong.
            DataError: A file is not an outputs file.
            ModelError: The tokenizer does not exist.
        """
        # Importing torch takes seconds.
        from lightning_neft.evaluation.records import name_of_one, read_outputs
        from lightning_neft.evaluation.result import InputFile, make_result, provenance
        from lightning_neft.evaluation.text_statistics import statistics_of

        settings = {"first_k_tokens": options.first_k_tokens, "tokenizer": options.tokenizer}
        results = []
        for path, outputs in [(path, read_outputs(path)) for path in options.outputs]:
            found = statistics_of(
                [item.output for item in outputs],
                tokens=_token_counts(outputs, options),
                first_k_tokens=options.first_k_tokens,
            )
            label = name_of_one([item.generator for item in outputs], path, "outputs", path.stem)
            source = provenance([InputFile.read("outputs", path, len(outputs))], settings, seed=None)
            results.append(make_result("text_statistics", label, found, source))
        return results

    def show(self, result: dict[str, Any], console: Console) -> None:
        """Print a result as tables."""
        kept = result["n_total"] - result["n_without_diversity"]
        console.print(Text(f"{result['label']}: {result['n_total']} outputs, {result['n_empty']} of them empty"))
        lengths = Table("mean length", "", box=None)
        for unit in ("characters", "words", "tokens"):
            if (mean := result[f"mean_{unit}"]) is not None:
                lengths.add_row(unit, f"{mean:.1f}")
        console.print(lengths)
        k = result["first_k_tokens"]
        which = f"first {k} words, {result['n_short']} shorter outputs omitted" if k else "whole outputs"
        console.print(Text(f"repetition and diversity ({which}): {kept} outputs"))
        table = Table("", "all n-grams", "paper's variant", box=None)
        for n in (2, 3, 4):
            shares = (result[f"repetition_{n}"], result[f"repetition_{n}_paper"])
            table.add_row(f"{n}-gram repetition", *("-" if one is None else f"{100 * one:.2f} %" for one in shares))
        table.add_row("diversity", _number(result["diversity"]), "")
        table.add_row("log-diversity", _number(result["log_diversity"]), _number(result["log_diversity_paper"]))
        for n in (1, 2, 3, 4):
            table.add_row(f"distinct-{n}", _number(result[f"distinct_{n}"]), "")
        console.print(table)


def _token_counts(outputs: list[Output], options: Namespace) -> list[int] | None:
    if options.tokenizer is None:
        return None
    from lightning_neft.evaluation.text_statistics import token_counts
    from lightning_neft.hub.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer, options.trust_remote_code)
    return token_counts(tokenizer, [item.output for item in outputs])


class AnnotationsKind:
    """`evaluate --annotations`: win rates from a judge's annotations, and paired differences between models."""

    takes_config = False

    def add_options(self, parser: VerbParser) -> None:
        """Add the options of this kind."""
        parser.add_argument("--annotations", type=Path, nargs="+", action="extend", required=True, metavar="FILE")
        parser.add_argument("--seed", type=int, default=0)

    def run(self, options: Namespace) -> list[dict[str, Any]]:
        """Return a win rate for each file, then the difference between each further model and the first.

        Raises:
            DataError: A file is not an annotations file, or two differ in their instructions or baseline.
        """
        from lightning_neft.evaluation.annotations import difference_result, read_judged, win_rate_result

        judged = [read_judged(path) for path in options.annotations]
        differences = [difference_result(judged[0], other, seed=options.seed) for other in judged[1:]]
        return [*map(win_rate_result, judged), *differences]

    def show(self, result: dict[str, Any], console: Console) -> None:
        """Print a result as a table."""
        (_show_difference if result["kind"] == "win_rate_difference" else show_win_rate)(result, console)


def show_win_rate(result: dict[str, Any], console: Console) -> None:
    """Print a result of the kind win_rate as a table."""
    console.print(
        Text(
            f"{result['label']} against {result['baseline_label']}, judged by {result['judge']}: {result['n_total']} "
            f"pairs, {result['n_wins']} wins, {result['n_losses']} losses, {result['n_draws']} draws"
        )
    )
    if result["n_unjudged"]:
        console.print(Text(f"{result['n_unjudged']} pairs without a verdict omitted", style="yellow"))
    rate = result["length_controlled_win_rate"]
    table = Table("win rate, compared with 50 %", "%", "standard error", box=None)
    table.add_row("raw", _fixed(result["win_rate"]), _fixed(result["standard_error"]))
    table.add_row("at equal length (own model)", _fixed(rate), _fixed(result["length_controlled_standard_error"]))
    console.print(table)
    if rate is None:
        console.print(Text(f"no rate at equal length: {result['length_controlled_reason']}", style="yellow"))
    console.print(
        Text(
            f"mean length: {result['mean_characters']:.0f} characters, baseline "
            f"{result['baseline_mean_characters']:.0f}; the rate at equal length is not the length-controlled win rate "
            "of AlpacaEval 2"
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
        sentence = verdict(Interval(mean, low, high, result["level"]), lower_is_better=False)
        console.print(Text(f"at equal length (own model): {sentence}"))
    console.print(
        Text(
            f"mean length: {result['mean_characters']:.0f} characters, {result['baseline_label']} "
            f"{result['baseline_mean_characters']:.0f}"
        )
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
