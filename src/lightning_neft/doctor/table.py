"""Prints a report as a table, for terminals of 80 columns and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lightning_neft.common.escaping import escaped
from lightning_neft.doctor.report import BatchReport, DoctorReport, EmbeddingReport, LengthReport, ModelReport

__all__ = ["print_report"]


def print_report(report: DoctorReport, console: Console | None = None) -> None:
    """Print a report to the standard output."""
    console = console or Console()
    if report.lands:
        names = ", ".join(embedding.name for embedding in report.embeddings)
        console.print(Text(f"Noise is applied to {names}.", style="bold green"))
    else:
        console.print(Text(f"No noise is applied: {report.reason}", style="bold red"))
    summary = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    summary.add_column(style="bold", no_wrap=True)
    summary.add_column(overflow="fold")
    for name, text in _summary(report):
        # Names of modules and tokens may come from a downloaded model.
        summary.add_row(name, Text(escaped(text)))
    console.print(Group(Text(), summary))
    measured = [embedding for embedding in report.embeddings if embedding.noise_rms is not None]
    if measured:
        noise = report.noise or {}
        console.print(Group(Text(), _strengths(measured, noise)))
        if noise.items() >= _PAPER.items():
            console.print(Text(f"\nThe paper used alpha {_LEAST} to {_MOST}, and reports no noise-to-signal."))
    for advice in report.warnings:
        console.print(Text(f"\n! {advice.what}.", style="yellow"))
        console.print(Padding(Text(f"-> {advice.do}."), (0, 0, 0, 2)))


def _summary(report: DoctorReport) -> Iterator[tuple[str, str]]:
    yield "model", _model(report.model)
    if report.model.towers is not None:
        yield "towers", f"{report.model.towers} read no text: {_frozen(report.model)}"
    yield "weights", _weights(report.model)
    yield "modes", _mode(report.model)
    yield "noise", _noise(report.noise)
    for embedding in report.embeddings:
        table = f", {embedding.table[0]} x {embedding.table[1]}" if embedding.table else ""
        yield "embedding", f"{embedding.name} ({embedding.kind}{table}): {embedding.found_by}"
    yield from _batch(report.batch)
    for long in report.long:
        yield f"at {long.length}", _long(long, len(report.long) > 1)
    for note in report.notes:
        yield "note", note


def _model(model: ModelReport) -> str:
    return f"{model.base}: {model.architecture}, {_count(model.parameters)} parameters"


def _frozen(model: ModelReport) -> str:
    return "freeze them in your own module" if model.mode_in_fit is None else "frozen in fit, without adapters"


def _weights(model: ModelReport) -> str:
    if model.weights == "random":
        return f"{model.dtype}, random: initialised by the model, not read from its checkpoint"
    if model.parameters_read == model.parameters:
        return f"{model.dtype}, from the checkpoint, all loaded"
    return f"{model.dtype}, from the checkpoint, {_count(model.parameters_read)} parameters read"


def _mode(model: ModelReport) -> str:
    fit = f", {model.mode_in_fit} in fit" if model.mode_in_fit else ""
    dropout = "dropout" if model.has_dropout else "no dropout"
    return f"{model.mode_after_loading} after from_pretrained{fit}; {dropout}; neither affects the noise"


def _noise(noise: Mapping[str, Any] | None) -> str:
    if noise is None:
        return "off"
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in noise.items()
    )


def _batch(batch: BatchReport) -> Iterator[tuple[str, str]]:
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


def _long(long: LengthReport, is_one_of_several: bool) -> str:
    where = f" on {long.name}" if is_one_of_several else ""
    return (
        f"noise-to-signal {_number(long.noise_to_signal)}{where} on samples of {long.length} tokens, "
        f"{_number(long.block_noise_to_signal)} at the first block; {long.unchanged:.1%} lost to rounding"
    )


_AT_BLOCK = "noise-to-signal at the first block"
# Each row: its name, and its value for one embedding.
_ROWS: list[tuple[str, Callable[[EmbeddingReport], str]]] = [
    ("dtype", lambda embedding: str(embedding.dtype)),
    ("width d", lambda embedding: str(embedding.width)),
    ("noise RMS", lambda embedding: _number(embedding.noise_rms)),
    ("embedding RMS", lambda embedding: _number(embedding.embedding_rms)),
    ("token norm (neftune.reference_norm)", lambda embedding: _number(embedding.token_norm)),
    ("noise-to-signal at the embedding", lambda embedding: _number(embedding.noise_to_signal)),
    (_AT_BLOCK, lambda embedding: _number(embedding.block_noise_to_signal)),
    ("first block", lambda embedding: embedding.block or "not embedding"),
    ("elements lost to rounding", lambda embedding: f"{embedding.unchanged or 0:.1%}"),
]
# The paper's noise: only that can be compared with its alphas, which were 5, 10 and 15.
_PAPER = {"distribution": "uniform", "length": "true", "scale": "paper"}
_LEAST, _MOST = 5, 15


def _strengths(embeddings: list[EmbeddingReport], noise: Mapping[str, Any]) -> Table:
    table = Table("strength", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for embedding in embeddings:
        table.add_column(Text(embedding.name), overflow="fold")
    for name, value in _ROWS:
        table.add_row(name, *(Text(value(embedding)) for embedding in embeddings))
        if name == _AT_BLOCK and noise.items() >= _PAPER.items():
            per_alpha = [(embedding.noise_to_signal or 0) / noise["alpha"] for embedding in embeddings]
            ranges = [f"{_number(_LEAST * one)} to {_number(_MOST * one)}" for one in per_alpha]
            table.add_row(f"noise-to-signal with alpha {_LEAST} to {_MOST}", *map(Text, ranges))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _count(number: int) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:,}"
