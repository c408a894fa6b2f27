"""Prints a report as a table, for terminals of 80 columns and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lightning_neft.common.escaping import escaped
from lightning_neft.doctor.report import BatchFacts, DoctorReport, EmbeddingFacts, LongFacts, ModelFacts

__all__ = ["print_report"]


def print_report(report: DoctorReport, console: Console | None = None) -> None:
    """Print a report to the standard output."""
    console = console or Console()
    if report.lands:
        names = ", ".join(found.name for found in report.embeddings)
        console.print(Text(f"Noise is applied to {names}.", style="bold green"))
    else:
        console.print(Text(f"No noise is applied: {report.reason}", style="bold red"))
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in _facts(report):
        # Names of modules and tokens may come from a downloaded model.
        facts.add_row(name, Text(escaped(text)))
    console.print(Group(Text(), facts))
    measured = [found for found in report.embeddings if found.noise_rms is not None]
    if measured:
        console.print(Group(Text(), _strengths(measured)))
    for advice in report.warnings:
        console.print(Text(f"\n! {advice.what}.", style="yellow"))
        console.print(Padding(Text(f"-> {advice.do}."), (0, 0, 0, 2)))


def _facts(report: DoctorReport) -> Iterator[tuple[str, str]]:
    yield "model", _model(report.model)
    yield "weights", _weights(report.model)
    yield "modes", _modes(report.model)
    yield "noise", _noise(report.noise)
    for found in report.embeddings:
        table = f", {found.table[0]} x {found.table[1]}" if found.table else ""
        yield "embedding", f"{found.name} ({found.kind}{table}): {found.found_by}"
    yield from _batch(report.batch)
    for long in report.long:
        yield f"at {long.length}", _long(long, len(report.long) > 1)
    for note in report.notes:
        yield "note", note


def _model(model: ModelFacts) -> str:
    return f"{model.base}: {model.architecture}, {_count(model.parameters)} parameters"


def _weights(model: ModelFacts) -> str:
    if model.weights == "random":
        return f"{model.dtype}, random: initialised by the model, not read from its checkpoint"
    if model.parameters_read == model.parameters:
        return f"{model.dtype}, from the checkpoint, all loaded"
    return f"{model.dtype}, from the checkpoint, {_count(model.parameters_read)} parameters read"


def _modes(model: ModelFacts) -> str:
    fit = f", {model.mode_in_fit} in fit" if model.mode_in_fit else ""
    dropout = "dropout" if model.has_dropout else "no dropout"
    return f"{model.mode_after_loading} after from_pretrained{fit}; {dropout}; neither affects the noise"


def _noise(noise: Mapping[str, Any] | None) -> str:
    if noise is None:
        return "off"
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in noise.items()
    )


def _batch(batch: BatchFacts) -> Iterator[tuple[str, str]]:
    yield "batch", f"{batch.rows} {'rows' if batch.rows > 1 else 'row'} of {batch.width} tokens: {batch.source}"
    for field, lengths in batch.lengths.items():
        mean = sum(lengths) / max(len(lengths), 1)
        yield "lengths", f"{min(lengths, default=0)} to {max(lengths, default=0)}, mean {mean:.0f}, from {field}"
    if not batch.lengths:
        yield "lengths", f"{batch.width}, the width: the batch does not mark its padding"
    if batch.labels == "tokens":
        yield "labels", f"on {batch.labelled_tokens} tokens"
    else:
        yield "labels", "none" if batch.labels is None else "one class per row"


def _long(long: LongFacts, is_one_of_several: bool) -> str:
    where = f" on {long.name}" if is_one_of_several else ""
    return (
        f"noise-to-signal {_number(long.noise_to_signal)}{where} on samples of {long.length} tokens, "
        f"{_number(long.block_noise_to_signal)} at the first block; {long.unchanged:.1%} lost to rounding"
    )


# Each row: its name, and its value for one embedding.
_ROWS: list[tuple[str, Callable[[EmbeddingFacts], str]]] = [
    ("dtype", lambda found: str(found.dtype)),
    ("width d", lambda found: str(found.width)),
    ("noise RMS", lambda found: _number(found.noise_rms)),
    ("embedding RMS", lambda found: _number(found.embedding_rms)),
    ("token norm (neftune.reference_norm)", lambda found: _number(found.token_norm)),
    ("noise-to-signal at the embedding", lambda found: _number(found.noise_to_signal)),
    ("noise-to-signal at the first block", lambda found: _number(found.block_noise_to_signal)),
    ("first block", lambda found: found.block or "not found"),
    ("elements lost to rounding", lambda found: f"{found.unchanged or 0:.1%}"),
]


def _strengths(embeddings: list[EmbeddingFacts]) -> Table:
    table = Table("strength", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for found in embeddings:
        table.add_column(Text(found.name), overflow="fold")
    for name, value in _ROWS:
        table.add_row(name, *(Text(value(found)) for found in embeddings))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _count(number: int) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:,}"
