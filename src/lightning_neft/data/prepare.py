"""From the data options to tokens on disk: read, parse, split, encode; once for each set of options.

With streaming only the validation set is stored, and training samples are encoded as they are read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lightning_neft.data.conversation import Conversation, Sample
from lightning_neft.data.cutting import cut_conversations
from lightning_neft.data.formats.format import PARSING_VERSION, Format, Parsed, parse_records
from lightning_neft.data.formats.registry import choose_format
from lightning_neft.data.sample_stream import EncodedRecords, SampleStream
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.data.sources.source import open_source
from lightning_neft.data.templates.registry import default_template, template_named
from lightning_neft.data.templates.template import Template
from lightning_neft.data.token_store import Stored, TokenStore, fingerprint, open_or_build
from lightning_neft.data.tokenization import Encoding, Task, encode, label_names
from lightning_neft.errors import DataError
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DataOptions", "Prepared", "prepare", "template_of"]

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


@dataclass(frozen=True)
class DataOptions:
    """Options that determine the tokens; `TextData` explains each."""

    source: str
    tokenizer: str
    trust_remote_code: bool = False
    task: Task = "causal_lm"
    split: str | None = None
    subset: str | None = None
    revision: str | None = None
    format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    template: str | None = None
    max_length: int = 512
    max_target_length: int | None = None
    cut_conversations: bool = False
    val_size: int | float = 0.05
    val_split: str | None = None
    strict: bool = False
    cache_dir: str | None = None
    streaming: bool = False


@dataclass(frozen=True)
class Prepared:
    """Data that are ready for batching.

    Attributes:
        stored: The training samples, None with streaming.
        stream: The training samples with streaming, otherwise None.
        held_out: The validation set, None if there is none.
        tokenizer: With the template's special tokens.
        template: Renders the conversations.
        special_tokens: Tokens that were added to the tokenizer; the model needs rows for them.
        format: Name of the data format.
        label_names: The classes, in the order of their indices; empty for other tasks.
        notices: Lines that report what was dropped or changed.
        digest: SHA-256 of the records (the first one of a stream), the tokenizer, the template and the options. Runs
            with the same digest have the same samples.
    """

    stored: TokenStore | None
    stream: SampleStream | None
    held_out: TokenStore | None
    tokenizer: PreTrainedTokenizerBase
    template: Template
    special_tokens: tuple[str, ...]
    format: str
    label_names: list[str | int]
    notices: list[str]
    digest: str

    @property
    def train(self) -> TokenStore:
        """The training samples.

        Raises:
            DataError: With streaming, which does not store them.
        """
        if self.stored is None:
            raise DataError("data.streaming does not store the training samples; set data.streaming false")
        return self.stored


def prepare(options: DataOptions) -> Prepared:
    """Read, split and encode the data, or open the tokens that an earlier run stored for the same options.

    Raises:
        DataError: If a source cannot be read, or has no sample to train on or to validate on.
        ModelError: If the tokenizer cannot be loaded.
        ConfigError: If an option names something that does not exist.
    """
    records = _open(options, options.split)
    held_out_records = None if options.val_split is None else _open(options, options.val_split)
    chosen = choose_format(records.head, options.format, options.columns, source=options.source)
    tokenizer = load_tokenizer(options.tokenizer, options.trust_remote_code)
    template = _template(options, chosen, tokenizer)
    special_tokens = tuple(add_special_tokens(tokenizer, template.special_tokens))
    if options.streaming and held_out_records is None and options.val_size:
        held_out_records = _FirstRecords(records, int(options.val_size))
    work = _Work(options, records, held_out_records, chosen, tokenizer, template)
    key = fingerprint(
        tokenizer=tokenizer,
        template=template,
        parsing=PARSING_VERSION,
        # A stream is not read for its fingerprint.
        source=repr(records.first) if options.streaming else records.fingerprint,
        held_out=None if held_out_records is None else held_out_records.fingerprint,
        format=chosen.identity(),
        **{option: getattr(options, option) for option in _DECIDING},
    )
    made = tokenizer, template, special_tokens, chosen.name
    held_out = None
    if options.streaming:
        notices: list[str] = []
        if held_out_records is not None:
            held_out = open_or_build(f"{key}-held_out", work.held_out_of_stream, options.cache_dir)
            notices = [*held_out.facts["notices"], *held_out.notices("held-out", options.max_length)]
        return Prepared(None, work.stream(key), held_out, *made, [], notices, key)
    train = open_or_build(f"{key}-train", work.train, options.cache_dir)
    labels = train.facts["labels"]
    notices = [*train.facts["notices"], *train.notices("training", options.max_length)]
    if options.val_split is not None or options.val_size:
        held_out = open_or_build(f"{key}-held_out", lambda: work.held_out(labels), options.cache_dir)
        notices += held_out.notices("held-out", options.max_length)
    return Prepared(train, None, held_out, *made, labels, notices, key)


def template_of(options: DataOptions, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template of the data; at most their first records are read.

    Raises:
        DataError: If they cannot be read.
        ConfigError: If there is no such template.
    """
    if options.template is not None:
        return template_named(options.template, tokenizer)
    records = open_source(
        options.source, split=options.split, subset=options.subset, revision=options.revision, streaming=True
    )
    chosen = choose_format(records.head, options.format, options.columns, source=options.source)
    return _template(options, chosen, tokenizer)


def _template(options: DataOptions, chosen: Format, tokenizer: PreTrainedTokenizerBase) -> Template:
    name = options.template
    return default_template(chosen, tokenizer) if name is None else template_named(name, tokenizer)


class _FirstRecords(Records):
    """The first records of a stream, for validation.

    Raises:
        DataError: If no record is left to train on.
    """

    def __init__(self, records: Records, count: int) -> None:
        super().__init__(records.name)
        self._records = list(islice(records, count + 1))
        if len(self._records) <= count:
            raise DataError(
                f"data.val_size={count} holds out all {len(self._records)} records of {records.name}, which leaves "
                "none to train on; give a smaller data.val_size"
            )
        self._records.pop()

    @override
    def __iter__(self) -> Iterator[tuple[Record, str]]:
        return iter(self._records)

    @property
    @override
    def fingerprint(self) -> str:
        """SHA-256 over the records."""
        return hashlib.sha256(repr([record for record, _ in self._records]).encode()).hexdigest()


def _open(options: DataOptions, split: str | None) -> Records:
    return open_source(
        options.source, split=split, subset=options.subset, revision=options.revision, streaming=options.streaming
    )


@dataclass
class _Work:
    """Reads and encodes where there are no stored tokens."""

    options: DataOptions
    records: Records
    held_out_records: Records | None
    format: Format
    tokenizer: PreTrainedTokenizerBase
    template: Template

    def train(self) -> Iterator[Stored]:
        options = self.options
        labels: list[str | int] = []
        if options.task == "sequence_classification":
            # The classes of all samples, so all are read first.
            labels = label_names([sample for chunk in self._chunks(of_train=True) for sample in chunk.samples])
        parsed, held_out = Parsed(), Parsed() if self.held_out_records is None else self._parsed_held_out
        for stored in self._stored("training", self._chunks(of_train=True, seen=parsed), labels):
            notices = [*parsed.lines("training"), *held_out.lines("held-out")]
            yield replace(stored, facts={"labels": labels, "notices": notices})

    def held_out(self, labels: Sequence[str | int]) -> Iterator[Stored]:
        held_out = self._chunks(of_train=False) if self.held_out_records is None else iter([self._parsed_held_out])
        yield from self._stored("held-out", held_out, labels)

    def held_out_of_stream(self) -> Iterator[Stored]:
        parsed = self._parsed_held_out
        for stored in self._stored("held-out", iter([parsed]), ()):
            yield replace(stored, facts={"notices": parsed.lines("held-out")})

    def stream(self, key: str) -> SampleStream:
        options = self.options
        return SampleStream(
            self.records,
            self._encode_records,
            skip=0 if options.val_split is not None else int(options.val_size),
            max_length=options.max_length,
            strict=options.strict,
            fingerprint=key,
        )

    def _encode_records(self, records: Sequence[tuple[Record, str]]) -> EncodedRecords:
        parsed = parse_records(records, self.format)
        # The stream reports which sample has no token to train on.
        places = [where for _, where in records]
        encoding, _, origins = self._encode(parsed.samples, (), strict=False, places=places)
        return EncodedRecords(encoding, origins, parsed)

    @cached_property
    def _parsed_held_out(self) -> Parsed:
        assert self.held_out_records is not None
        return parse_records(self.held_out_records, self.format)

    def _chunks(self, of_train: bool, seen: Parsed | None = None) -> Iterator[Parsed]:
        """Parse the records, a chunk at a time, and yield the samples of one side of the split.

        Args:
            of_train: Whether to yield the training samples, or the validation samples of the same records.
            seen: Counts the records and the notices.
        """
        is_held_out = self._is_held_out
        records = iter(self.records)
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
                parsed.samples = [sample for sample, wanted in zip(parsed.samples, mine, strict=True) if wanted]
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
            encoding, samples, _ = self._encode(chunk.samples, labels, options.strict, before=encoded)
            stored = Stored(encoding, [samples[index] for index in encoding.kept])
            dropped.update(encoding.dropped)
            kept += len(encoding.kept)
            encoding.kept = [index + encoded for index in encoding.kept]
            encoded += len(samples)
            yield stored
        if not kept:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
            raise DataError(
                f"none of the {encoded} {name} samples of {options.source!r} has a token to train on within "
                f"data.max_length={options.max_length} ({reasons}); raise it, or look at the data with preview"
            )

    def _encode(
        self,
        samples: list[Sample],
        labels: Sequence[str | int],
        strict: bool,
        before: int = 0,
        places: Sequence[str] = (),
    ) -> tuple[Encoding, list[Sample], Sequence[int]]:
        """Cut and encode; also return the pieces and, for each piece, the index of its sample."""
        options = self.options
        origins: Sequence[int] = range(len(samples))
        if options.cut_conversations:
            conversations = [sample for sample in samples if isinstance(sample, Conversation)]
            pieces, origins = cut_conversations(conversations, self.tokenizer, self.template, options.max_length)
            samples = [*pieces]
        encoding = encode(
            samples,
            self.tokenizer,
            self.template,
            task=options.task,
            max_length=options.max_length,
            max_target_length=options.max_target_length,
            labels=labels,
            strict=strict,
            before=before,
            places=[places[origin] for origin in origins] if places else (),
        )
        return encoding, samples, origins
