"""The verb preview: the samples that the model would be trained on, before any weights are loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from lightning_neft.cli.keys import check_early
from lightning_neft.common.escaping import escaped
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from lightning_neft.data.mixture import Mixture
    from lightning_neft.data.module import TextData
    from lightning_neft.data.sample_stream import FirstSamples
    from lightning_neft.data.token_store import TokenStore
    from lightning_neft.data.tokenization import EncodedSample

    # The training samples; of a stream the first ones.
    _Train = TokenStore | Mixture | FirstSamples

__all__ = ["run"]

# Around trained text where there are no colours.
_OPEN, _CLOSE = ">>>", "<<<"
_BAR = 40


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: preview.
        args: The command line after it.

    Raises:
        ConfigError: An option is wrong or missing.
        DataError: The data cannot be read.
    """
    as_json = "--json" in args
    rest = [argument for argument in args if argument != "--json"]
    if not rest:
        raise ConfigError("preview needs data to look at: --config FILE_OR_RECIPE, or --data.source PATH")
    check_early(rest)
    from lightning_neft.cli.memory import forecast_of_fit
    from lightning_neft.cli.process import quiet
    from lightning_neft.cli.program import WITHOUT_TRAINING, Program
    from lightning_neft.models.vocabulary import lacking_rows

    # What libraries print is not part of the object.
    with redirect_stdout(sys.stderr if as_json else sys.stdout), quiet():
        program = Program(verb, [*rest, *WITHOUT_TRAINING])
        data = program.datamodule
        data.setup("fit")
        stream = data.prepared.stream
        train: _Train
        if stream is None:
            train, notices = data.prepared.train, data.prepared.notices
        else:
            train = first = stream.first()
            notices = [*data.prepared.notices, *first.notices]
        options = data.options
        if lacking := lacking_rows(options.tokenizer, data.prepared.tokenizer, options.trust_remote_code):
            notices = [*notices, f"{lacking}: fit adds rows"]
        estimated = forecast_of_fit(program)
        precision = program.precision or program.config.trainer.precision
        fit = {"precision": program.config.trainer.precision, "memory": estimated.to_json()}
    shown = max(0, program.config.samples)
    if as_json:
        print(json.dumps({**_as_json(data, train, notices, shown), **fit}, indent=2, ensure_ascii=False))
    else:
        _print(data, train, notices, shown)
        print(f"precision of a fit: {precision}")
        print(f"memory of a fit: {estimated.text}")


def _as_json(data: TextData, train: _Train, notices: list[str], count: int) -> dict[str, Any]:
    from lightning_neft.data.statistics import length_statistics, waste_by_batching

    prepared, options = data.prepared, data.options
    stores = {"train": train, "held_out": prepared.held_out}
    waste = waste_by_batching(train.lengths, options.task, data.batch_size, options.max_length, data.seed)
    return {
        "source": options.source,
        "sources": _sources(data) or None,
        "task": options.task,
        "format": prepared.format,
        "template": prepared.template.name,
        "tokenizer": options.tokenizer,
        "max_length": options.max_length,
        "batching": data.batching,
        "batch_size": data.batch_size,
        "streaming": options.streaming,
        "label_names": prepared.label_names,
        "notices": notices,
        **{
            name: None
            if store is None
            else {
                **length_statistics(store.lengths, store.trained).to_json(),
                "truncated": store.truncated,
                "dropped": store.dropped,
            }
            for name, store in stores.items()
        },
        "padding": {
            mode: {"share": found.share, "batches": found.batches, "rows": found.rows} for mode, found in waste.items()
        },
        "samples": [
            {
                "parts": [{"text": text, "trained": trained} for text, trained in _parts(data, train[index])],
                "marked_untrained": _marked_untrained(train, index),
            }
            for index in _first(train, count)
        ],
    }


def _first(train: _Train, count: int) -> Sequence[int]:
    """Return the samples to print: the first ones, of a mixture those of each source in turn."""
    from lightning_neft.data.mixture import Mixture

    return train.in_turn(count) if isinstance(train, Mixture) else range(min(count, len(train)))


def _sources(data: TextData) -> list[dict[str, Any]]:
    """Return what each source contributes to an epoch of a mixture; nothing without one."""
    from lightning_neft.data.mixture import Mixture

    train, mixing, sources = data.prepared.stored, data.options.mixing, data.prepared.sources
    if not isinstance(train, Mixture) or mixing is None:
        return []
    tokens = int(train.lengths.sum())
    return [
        {
            "name": source.name,
            "source": options.source,
            "format": source.format,
            "template": source.template.name,
            "weight": None if mixing.weights is None else mixing.weights[number],
            "samples": share.samples,
            "share_of_samples": share.samples / len(train),
            "tokens": share.tokens,
            "share_of_tokens": share.tokens / tokens,
            "distinct": share.distinct,
            "available": share.available,
            "held_out": 0 if source.held_out is None else len(source.held_out),
        }
        for number, (source, options, share) in enumerate(zip(sources, data.options.parts, train.shares(), strict=True))
    ]


def _parts(data: TextData, sample: EncodedSample) -> Iterator[tuple[str, bool]]:
    """Yield the text of a training sample piece by piece, each with whether it is trained."""
    prepared = data.prepared
    ids, labels = sample.input_ids, sample.labels
    decode = prepared.tokenizer.decode
    if data.options.task == "sequence_classification":
        yield decode(ids), False
        yield f" {prepared.label_names[int(labels[0])]}", True
    elif data.options.task == "seq2seq_lm":
        yield decode(ids), False
        yield decode(labels), True
    else:
        from itertools import groupby

        from lightning_neft.data.tokenization import IGNORED

        for trained, run_of in groupby(zip(ids, labels, strict=True), key=lambda pair: bool(pair[1] != IGNORED)):
            yield decode([token for token, _ in run_of]), trained


def _marked_untrained(train: _Train, index: int) -> int:
    """Return the number of a sample's answers that the data mark as untrained; 0 for a stream, which keeps no texts."""
    from lightning_neft.data.conversation import Conversation

    sample = train.samples[index]
    return sum(not message.trained for message in sample.messages) if isinstance(sample, Conversation) else 0


def _print(data: TextData, train: _Train, notices: list[str], count: int) -> None:
    from rich.console import Console
    from rich.text import Text

    prepared, options = data.prepared, data.options
    console = Console()
    console.print(
        Text(
            f"{options.source}: format {prepared.format}, template {prepared.template.name}, task {options.task}, "
            f"tokenizer of {options.tokenizer}"
        )
    )
    if prepared.label_names:
        console.print(Text(f"classes: {escaped(', '.join(map(str, prepared.label_names)))}"))
    for notice in notices:
        console.print(Text(notice, style="yellow"))
    if options.streaming:
        console.print(Text("streaming: the training data here are the samples of the first records", style="yellow"))
    if found := _sources(data):
        _print_sources(console, found)
    for number, index in enumerate(_first(train, count), start=1):
        _print_sample(console, data, train, index, number)
    # The targets of the other tasks are not among the tokens whose lengths these are.
    by_token = options.task == "causal_lm"
    _print_lengths(console, "training", train, by_token)
    if prepared.held_out is not None:
        _print_lengths(console, "held-out", prepared.held_out, by_token)
    _print_padding(console, data, train)


def _print_sources(console: Console, sources: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("source", "format", "template", "samples", "tokens", "validation", box=None)
    for one in sources:
        samples = f"{one['samples']} ({one['share_of_samples']:.1%})"
        tokens = f"{one['tokens']} ({one['share_of_tokens']:.1%})"
        cells = (one["name"], one["format"], one["template"], samples, tokens, one["held_out"])
        table.add_row(*map(escaped, map(str, cells)))
    console.print(table)


def _print_sample(console: Console, data: TextData, train: _Train, index: int, number: int) -> None:
    from rich.panel import Panel
    from rich.text import Text

    from lightning_neft.data.mixture import Mixture

    text = Text()
    for piece, trained in _parts(data, train[index]):
        piece = escaped(piece, keep="\n\t")
        if not trained:
            text.append(piece, style="dim")
        elif console.color_system:
            text.append(piece, style="bold green")
        else:
            text.append(f"{_OPEN}{piece}{_CLOSE}")
    marked = "in colour" if console.color_system else f"between {_OPEN} and {_CLOSE}"
    title = f"training sample {number}: {train.lengths[index]} tokens, {train.trained[index]} trained ({marked})"
    # Below: the title fills a line of 80 columns.
    below = [f"from {data.prepared.sources[train.sources[index]].name}"] if isinstance(train, Mixture) else []
    if untrained := _marked_untrained(train, index):
        below.append(f"{untrained} answer{'s' * (untrained > 1)} marked as untrained")
    subtitle = "; ".join(below) or None
    console.print(Panel(text, title=title, title_align="left", subtitle=subtitle, subtitle_align="left"))


def _print_lengths(console: Console, name: str, store: _Train, is_trained_by_token: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from lightning_neft.data.statistics import length_statistics

    found = length_statistics(store.lengths, store.trained)
    share = f", {found.trained / found.tokens:.1%} of them trained" if is_trained_by_token else ""
    line = (
        f"{name} data: {found.samples} samples, {found.tokens} tokens{share}; "
        f"length: mean {found.mean:.0f}, median {found.median:.0f}, longest {found.longest}"
    )
    console.print(Text(line))
    table = Table("tokens", "samples", "", box=None)
    most = max(part.count for part in found.bins)
    for part in found.bins:
        table.add_row(f"{part.shortest}-{part.longest}", str(part.count), "#" * round(_BAR * part.count / most))
    console.print(table)


def _print_padding(console: Console, data: TextData, train: _Train) -> None:
    from rich.table import Table
    from rich.text import Text

    from lightning_neft.data.statistics import waste_by_batching

    options = data.options
    waste = waste_by_batching(train.lengths, options.task, data.batch_size, options.max_length, data.seed)
    what = "these samples" if options.streaming else "an epoch"
    console.print(Text(f"{what} in batches of {data.batch_size} rows on one device, by data.batching:"))
    table = Table("batching", "padding", "batches", box=None)
    for mode, found in waste.items():
        chosen = " (chosen)" if mode == data.batching else ""
        table.add_row(f"{mode}{chosen}", f"{found.share:.1%}", str(found.batches))
    console.print(table)
