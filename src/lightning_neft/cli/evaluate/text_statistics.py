"""`evaluate --outputs`: lengths, repetition and diversity of what a model wrote."""

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

__all__ = ["add_options", "run", "show", "takes_config"]

takes_config = False


def add_options(parser: VerbParser) -> None:
    """Add the options of this kind."""
    parser.add_argument("--outputs", type=Path, nargs="+", action="extend", required=True, metavar="FILE")
    parser.add_argument("--first-k-tokens", type=int, metavar="K")
    parser.add_argument("--tokenizer", metavar="NAME")
    parser.add_argument("--trust-remote-code", action="store_true")


def run(options: Namespace) -> list[dict[str, Any]]:
    """Return one result for each file.

    Raises:
        ConfigError: An option is wrong.
        DataError: A file is none of outputs.
        ModelError: There is no such tokenizer.
    """
    # torch takes its time.
    from lightning_neft.evaluation.records import name_of_one, read_outputs
    from lightning_neft.evaluation.result import InputFile, make_result, provenance
    from lightning_neft.evaluation.text_statistics import statistics_of

    settings = {"first_k_tokens": options.first_k_tokens, "tokenizer": options.tokenizer}
    paths = options.outputs
    files = [read_outputs(path) for path in paths]
    results = []
    for path, outputs in zip(paths, files, strict=True):
        label = name_of_one([item.generator for item in outputs], path, "outputs", path.stem)
        found = statistics_of(
            [item.output for item in outputs],
            tokens=_token_counts(outputs, options),
            first_k_tokens=options.first_k_tokens,
        )
        source = provenance([InputFile.read("outputs", path, len(outputs))], settings, seed=None)
        results.append(make_result("text_statistics", label, found, source))
    return results


def _token_counts(outputs: list[Output], options: Namespace) -> list[int] | None:
    if options.tokenizer is None:
        return None
    from lightning_neft.evaluation.text_statistics import token_counts
    from lightning_neft.hub.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer, options.trust_remote_code)
    return token_counts(tokenizer, [item.output for item in outputs])


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result for people."""
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
        names = (f"repetition_{n}", f"repetition_{n}_paper")
        table.add_row(f"{n}-gram repetition", *(_percent(result[name]) for name in names))
    table.add_row("diversity", _number(result["diversity"]), "")
    table.add_row("log-diversity", _number(result["log_diversity"]), _number(result["log_diversity_paper"]))
    for n in (1, 2, 3, 4):
        table.add_row(f"distinct-{n}", _number(result[f"distinct_{n}"]), "")
    console.print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
