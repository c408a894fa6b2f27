"""`DataOptions`: what determines the tokens, from the options of `TextData`; `Source`, an entry of `data.sources`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_neft.data.catalogue import find_entry
from lightning_neft.data.mixture import Mixing, MixStrategy, StoppingStrategy
from lightning_neft.data.sources.names import source_names
from lightning_neft.data.tokenization import Task
from lightning_neft.data.toy import TOY
from lightning_neft.errors import ConfigError

__all__ = ["DataOptions", "Source", "data_options"]

# Share of a source that is held out where nothing else is said.
_VAL_SIZE = 0.05
# Options that an entry of data.sources has itself.
_OF_SOURCE = ("split", "subset", "revision", "format", "columns")


@dataclass(frozen=True)
class Source:
    """A source of a mixture, an entry of `data.sources`.

    Args:
        source: A file, a glob pattern, a folder, a catalogue name or a hub id, as for `data.source`.
        weight: Share of the samples of an epoch, relative to the weights of the other sources.
        samples: Number of its training samples that are used, drawn with the seed; all by default.
        template: Template; `data.template` by default.
        format: Data format; detected by default.
        columns: The source's column for some of the format's own.
        split: Split to train on; train by default.
        subset: Subset (configuration) of a hub dataset.
        revision: Branch, tag or commit of a hub dataset.
    """

    source: str
    weight: float | None = None
    samples: int | None = None
    template: str | None = None
    format: str | None = None
    columns: dict[str, str] | None = None
    split: str | None = None
    subset: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class DataOptions:
    """Options that determine the tokens; `TextData` explains each.

    Attributes:
        source: The source; of a mixture the names of all, for messages.
        validation: The options of `val_source`; None without one.
        mixing: How the sources of a mixture are mixed; None for `data.source`.
        parts: The options of each source of a mixture.
    """

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
    val_size: int | float = _VAL_SIZE
    val_split: str | None = None
    strict: bool = False
    cache_dir: str | None = None
    streaming: bool = False
    validation: DataOptions | None = None
    mixing: Mixing | None = None
    parts: tuple[DataOptions, ...] = ()

    @property
    def each(self) -> tuple[DataOptions, ...]:
        """The options of each source: those of the mixture, or these."""
        return self.parts or (self,)

    @property
    def validated_names(self) -> tuple[str, ...]:
        """The names of the sources of a mixture if each has a validation set of its own, otherwise none."""
        return () if self.mixing is None or self.validation is not None else self.mixing.names

    @property
    def read_sources(self) -> list[str]:
        """All sources that are read, for training and validation, as given."""
        return [one.source for one in (*self.each, *([self.validation] if self.validation else []))]


def data_options(
    *,
    source: str | None,
    sources: Sequence[Source] | None,
    mix_strategy: MixStrategy | None,
    stopping_strategy: StoppingStrategy | None,
    seed: int,
    template: str | None,
    cut_conversations: bool | None,
    val_size: int | float | None,
    val_split: str | None,
    val_source: str | None,
    of_source: Mapping[str, Any],
    **common: Any,
) -> DataOptions:
    """Return the options of the data: defaults, and what the catalogue says of a source, are filled in.

    Args:
        source: As for `TextData`, as are the other options of these names.
        sources: Exclusive with it.
        mix_strategy: How these are mixed.
        stopping_strategy: When the mixture ends.
        seed: Seed of the mixture.
        template: Default template of each source.
        cut_conversations: None for what the catalogue says.
        val_size: Exclusive with val_source.
        val_split: Split of val_source, or else of each source.
        val_source: Source of the validation set.
        of_source: The options split, subset, revision, format and columns of `source`.
        **common: Other fields of `DataOptions`.

    Raises:
        ConfigError: If options exclude each other, or one of a source is out of range.
    """
    if val_source is not None and val_size is not None:
        raise ConfigError(
            f"data.val_source={val_source} is the validation set, but data.val_size={val_size!r} holds out another "
            "one; omit one of the two (--data.val_size null)"
        )
    size = _VAL_SIZE if val_size is None else val_size

    def part(one: Source, held_out: str | None = None, size: int | float = 0) -> DataOptions:
        entry = find_entry(one.source)
        if one.source != TOY and entry is not None:
            own = one.template or template or entry.template
            columns = one.columns or dict(entry.columns)
            one = replace(one, format=one.format or entry.format, columns=columns, template=own)
        is_cut = entry is not None and entry.cut_conversations
        return DataOptions(
            source=one.source,
            split=one.split,
            subset=one.subset,
            revision=one.revision,
            format=one.format,
            columns=dict(one.columns or {}),
            template=one.template or template,
            cut_conversations=is_cut if cut_conversations is None else cut_conversations,
            val_size=0 if held_out else size,
            val_split=held_out,
            **common,
        )

    def trained(one: Source) -> DataOptions:
        if one.source == TOY:
            one = replace(one, split=one.split or "train")
        if val_source is not None:
            return part(one)
        return part(one, val_split or ("held_out" if one.source == TOY else None), size)

    validation = None
    if val_source is not None:
        split = val_split or ("held_out" if val_source == TOY else None)
        validation = part(Source(val_source, split=split, format=of_source["format"], columns=of_source["columns"]))
    if sources is None:
        for name, value in (("mix_strategy", mix_strategy), ("stopping_strategy", stopping_strategy)):
            if value is not None:
                raise ConfigError(f"data.{name}={value} is for data.sources; omit it, or list the sources there")
        return replace(
            trained(Source(TOY if source is None else source, template=template, **of_source)), validation=validation
        )
    if source is not None:
        raise ConfigError(
            f"data.source={source} and data.sources exclude each other; omit one of the two (--data.source null)"
        )
    if given := [name for name in _OF_SOURCE if of_source[name]]:
        raise ConfigError(
            f"data.{given[0]} is for data.source; give {given[0]} in the entries of data.sources that need it"
        )
    _check_sources(sources)
    if common.get("streaming"):
        raise ConfigError("data.streaming reads a single source; omit it, or give data.source instead of data.sources")
    names = source_names([(one.source, one.subset, one.split) for one in sources])
    mixing = Mixing.of(
        names, [one.weight for one in sources], [one.samples for one in sources], mix_strategy, stopping_strategy, seed
    )
    return DataOptions(
        source=", ".join(names),
        template=template,
        validation=validation,
        mixing=mixing,
        parts=tuple(map(trained, sources)),
        **common,
    )


def _check_sources(sources: Sequence[Source]) -> None:
    if not sources:
        raise ConfigError("data.sources is an empty list; list sources there, or omit it")
    for number, one in enumerate(sources, start=1):
        where = f"data.sources, entry {number} ({one.source})"
        if one.weight is not None and one.samples is not None:
            raise ConfigError(
                f"{where}: weight={one.weight:g} and samples={one.samples} exclude each other; omit one of the two"
            )
        if one.weight is not None and not 0 < one.weight < float("inf"):
            raise ConfigError(f"{where}: weight must be above 0, got {one.weight!r}; omit a source that is not wanted")
        if one.samples is not None and one.samples < 1:
            raise ConfigError(f"{where}: samples must be 1 or more, got {one.samples!r}")
