"""From the data options to tokens on disk: read, parse, split, encode; once for each set of options.

With streaming only the validation set is stored, and training samples are encoded as they are read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_neft.data.conversation import Conversation, Labelled, Sample
from lightning_neft.data.cutting import cut_conversations
from lightning_neft.data.formats.format import PARSING_VERSION, Format, Parsed, parse_records
from lightning_neft.data.mixture import Mixing, Mixture
from lightning_neft.data.opened import Opened, open_sources
from lightning_neft.data.options import DataOptions
from lightning_neft.data.prepared import Prepared, PreparedSource
from lightning_neft.data.rendering import Rendering, rendering_of
from lightning_neft.data.sample_stream import EncodedRecords, SampleStream
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.data.templates.template import Template
from lightning_neft.data.token_store import Stored, TokenStore, fingerprint, open_or_build
from lightning_neft.data.tokenization import Encoding, encode, label_names, nothing_to_train
from lightning_neft.errors import DataError
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["prepare"]

# One split for all seeds, so that runs with different seeds have the same validation set.
_SPLIT_SEED = 20231009
# Records that are parsed, encoded and written at a time, so that memory does not grow with their number.
_CHUNK = 2000
# Options that change the tokens of the same records.
_DECIDING = (
    "task",
    "columns",
    "max_length",
    "max_target_length",
    "cut_conversations",
    "val_size",
    "val_split",
    "strict",
)


def prepare(options: DataOptions) -> Prepared:
    """Read, split and encode the data, or open the tokens that an earlier run stored for the same options.

    Raises:
        DataError: If a source cannot be read, or has no sample to train on or to validate on.
        ModelError: If the tokenizer cannot be loaded.
        ConfigError: If an option names something that does not exist.
    """
    opened, validation = open_sources(options)
    tokenizer = load_tokenizer(options.tokenizer, options.trust_remote_code)
    main, each = rendering_of(options, [one.format for one in opened], tokenizer)
    special_tokens = _add_special_tokens([main, *each])
    works = [_Work.of(one, rendering) for one, rendering in zip(opened, each, strict=True)]
    trained = [None if options.streaming else work.train_store() for work in works]
    labels = _labels(trained)
    stores = [(store, work.held_out_store(store, labels)) for work, store in zip(works, trained, strict=True)]
    names = (options.source,) if options.mixing is None else options.mixing.names
    sources = tuple(
        PreparedSource(name, work.format.name, work.template, work.tokenizer, *pair)
        for name, work, pair in zip(names, works, stores, strict=True)
    )
    notices = [line for source in sources for line in _notices(source, options)]
    key = works[0].key
    stored: TokenStore | Mixture | None
    held_out: TokenStore | Mixture | None
    stored, held_out = stores[0]
    stream = works[0].stream() if options.streaming else None
    if options.mixing is not None:
        stored, held_out = epoch, _ = _mixed(options.mixing, sources, labels)
        notices.append(options.mixing.notice(epoch))
        key = hashlib.sha256(repr([options.mixing.without_seed(), *(work.key for work in works)]).encode()).hexdigest()
    if validation is not None:
        # With its contents in its key, also beside a stream, whose own is that of its first record.
        work = replace(_Work.of(validation, main), held_out_records=validation.records)
        held_out = whole = work.whole_store(labels)
        notices += [*whole.facts["notices"], *whole.notices("held-out", options.max_length)]
        key = hashlib.sha256(f"{key} {work.key}".encode()).hexdigest()
    formats = ", ".join(dict.fromkeys(source.format for source in sources))
    return Prepared(
        stored, stream, held_out, main.tokenizer, main.template, special_tokens, formats, labels, notices, key, sources
    )


def _add_special_tokens(renderings: Sequence[Rendering]) -> tuple[str, ...]:
    """Add the special tokens of all templates to each tokenizer, and return those that the base lacked."""
    tokens = list(dict.fromkeys(token for one in renderings for token in one.template.special_tokens))
    added = [
        add_special_tokens(one, tokens) for one in {id(each.tokenizer): each.tokenizer for each in renderings}.values()
    ]
    return tuple(added[0])


def _labels(trained: Sequence[TokenStore | None]) -> list[str | int]:
    """Return the classes of all training samples."""
    found = [name for store in trained if store is not None for name in store.facts["labels"]]
    return label_names([Labelled("", name) for name in found])


def _notices(source: PreparedSource, options: DataOptions) -> list[str]:
    prefix = "" if options.mixing is None else f"{source.name}: "
    lines = []
    for name, store in (("training", source.train), ("held-out", source.held_out)):
        if store is not None:
            lines += [*store.facts.get("notices", ()), *store.notices(name, options.max_length)]
    return [f"{prefix}{line}" for line in lines]


def _mixed(
    mixing: Mixing, sources: Sequence[PreparedSource], labels: Sequence[str | int]
) -> tuple[Mixture, Mixture | None]:
    """Return the training samples of an epoch, and the validation set if there is one."""
    trained = [source.train for source in sources if source.train is not None]
    held_out = [source.held_out for source in sources if source.held_out is not None]
    classes = [[labels.index(name) for name in store.facts["labels"]] for store in trained] if labels else None
    index = mixing.drawn([len(store) for store in trained])
    return Mixture(trained, index, classes), Mixture(held_out) if held_out else None


@dataclass
class _Work:
    """Reads and encodes where there are no stored tokens."""

    options: DataOptions
    records: Records
    held_out_records: Records | None
    format: Format
    tokenizer: PreTrainedTokenizerBase
    template: Template

    @classmethod
    def of(cls, source: Opened, rendering: Rendering) -> _Work:
        return cls(
            source.options,
            source.records,
            source.held_out_records,
            source.format,
            rendering.tokenizer,
            rendering.template,
        )

    @cached_property
    def key(self) -> str:
        """Identifies the tokens."""
        options = self.options
        return fingerprint(
            tokenizer=self.tokenizer,
            template=self.template,
            parsing=PARSING_VERSION,
            # A stream is not read for its fingerprint.
            source=repr(self.records.first) if options.streaming else self.records.fingerprint,
            held_out=None if self.held_out_records is None else self.held_out_records.fingerprint,
            format=self.format.identity(),
            **{option: getattr(options, option) for option in _DECIDING},
        )

    def train_store(self) -> TokenStore:
        return open_or_build(f"{self.key}-train", self.train, self.options.cache_dir)

    def held_out_store(self, trained: TokenStore | None, labels: Sequence[str | int]) -> TokenStore | None:
        """Return the validation set that is split off; None without one.

        Args:
            trained: The training samples; None for a stream.
            labels: The classes, those of other sources too.
        """
        options = self.options
        if options.val_split is None and not options.val_size:
            return None
        if trained is None:
            return open_or_build(f"{self.key}-held_out", self.held_out, options.cache_dir)
        name = f"{self.key}-held_out{'' if labels == trained.facts['labels'] else _suffix(labels)}"
        return open_or_build(name, lambda: self.held_out(labels), options.cache_dir)

    def whole_store(self, labels: Sequence[str | int]) -> TokenStore:
        """Return all held-out records as a validation set."""
        name = f"{self.key}-whole{_suffix(labels) if labels else ''}"
        return open_or_build(name, lambda: self.held_out(labels), self.options.cache_dir)

    def train(self) -> Iterator[Stored]:
        options = self.options
        labels: list[str | int] = []
        if options.task == "sequence_classification":
            # The classes of all samples, so all are read first.
            labels = label_names(sample for chunk in self._chunks(of_train=True) for sample in chunk.samples)
        parsed = Parsed()
        for stored in self._stored("training", self._chunks(of_train=True, seen=parsed), labels):
            yield replace(stored, facts={"labels": labels, "notices": parsed.lines("training")})

    def held_out(self, labels: Sequence[str | int] = ()) -> Iterator[Stored]:
        parsed = Parsed()
        for stored in self._stored("held-out", self._chunks(of_train=False, seen=parsed), labels):
            # The notices on records that training shares are those of training.
            shares = self.held_out_records is None
            yield replace(stored, facts={"notices": [] if shares else parsed.lines("held-out")})

    def stream(self) -> SampleStream:
        options = self.options
        return SampleStream(
            self.records,
            self._encode_records,
            skip=0 if options.val_split is not None else int(options.val_size),
            max_length=options.max_length,
            strict=options.strict,
            fingerprint=self.key,
        )

    def _encode_records(self, records: Sequence[tuple[Record, str]]) -> EncodedRecords:
        parsed = parse_records(records, self.format)
        # The stream reports which sample has no token to train on.
        encoding, _, origins = self._encode(parsed, (), strict=False)
        return EncodedRecords(encoding, origins, parsed)

    def _chunks(self, of_train: bool, seen: Parsed | None = None) -> Iterator[Parsed]:
        """Parse the records, a chunk at a time, and yield the samples of one side of the split.

        Args:
            of_train: Whether to yield the training samples, or the validation samples.
            seen: Counts the records and the notices.
        """
        is_held_out = self._is_held_out
        records = iter(self.records if of_train or self.held_out_records is None else self.held_out_records)
        start = 0
        while chunk := list(islice(records, _CHUNK)):
            parsed = parse_records(chunk, self.format)
            if seen is not None:
                seen.count += parsed.count
                seen.notices.update(parsed.notices)
            if is_held_out is not None:
                mine = is_held_out[start : start + len(chunk)] != of_train
                if len(mine) < len(chunk):
                    raise DataError(f"{self.options.source} grew while it was read; start again")
                parsed.samples = list(compress(parsed.samples, mine))
                parsed.places = list(compress(parsed.places, mine))
            start += len(chunk)
            yield parsed

    @cached_property
    def _is_held_out(self) -> NDArray[np.bool_] | None:
        """Whether each record is held out, in the order of the source; None where none of these is."""
        val_size = self.options.val_size
        if self.held_out_records is not None or not val_size:
            return None
        records = self.records.size or 0
        count = val_size if isinstance(val_size, int) else max(1, round(val_size * records))
        if count >= records:
            raise DataError(
                f"data.val_size={val_size!r} holds out {count} of the {records} samples of {self.options.source}, "
                "which leaves none to train on; give a smaller data.val_size"
            )
        is_held_out = np.zeros(records, np.bool_)
        is_held_out[np.random.default_rng(_SPLIT_SEED).permutation(records)[:count]] = True
        return is_held_out

    def _stored(self, name: str, chunks: Iterable[Parsed], labels: Sequence[str | int]) -> Iterator[Stored]:
        options = self.options
        dropped: Counter[str] = Counter()
        encoded = kept = 0
        for chunk in chunks:
            encoding, samples, _ = self._encode(chunk, labels, options.strict)
            stored = Stored(encoding, [samples[index] for index in encoding.kept])
            dropped.update(encoding.dropped)
            kept += len(encoding.kept)
            encoding.kept = [index + encoded for index in encoding.kept]
            encoded += len(samples)
            yield stored
        if not kept:
            of = f"of {options.source!r}"
            one, more = f"the only {name} sample {of} has no", f"none of the {encoded} {name} samples {of} has a"
            what = one if encoded == 1 else more
            raise DataError(nothing_to_train(what, dropped, options.max_length))

    def _encode(
        self,
        parsed: Parsed,
        labels: Sequence[str | int],
        strict: bool,
    ) -> tuple[Encoding, list[Sample], Sequence[int]]:
        """Cut and encode; also return the pieces and, for each piece, the index of its sample."""
        options, samples, places = self.options, parsed.samples, parsed.places
        origins: Sequence[int] = range(len(samples))
        if options.cut_conversations:
            conversations = [sample for sample in samples if isinstance(sample, Conversation)]
            pieces, origins = cut_conversations(
                conversations, self.tokenizer, self.template, options.max_length, places
            )
            samples, places = [*pieces], [places[origin] for origin in origins]
        encoding = encode(
            samples,
            self.tokenizer,
            self.template,
            task=options.task,
            max_length=options.max_length,
            max_target_length=options.max_target_length,
            labels=labels,
            strict=strict,
            places=places,
        )
        return encoding, samples, origins


def _suffix(labels: Sequence[str | int]) -> str:
    """Return an ending for the name of tokens that depend on these classes."""
    return f"-{hashlib.sha256(repr(labels).encode()).hexdigest()[:16]}"
