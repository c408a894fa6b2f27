"""The datasets that have a name here, from catalogue.yaml: source, size, licence, format and template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from lightning_neft.common.config_text import compose_config
from lightning_neft.common.typed_yaml import read_typed

__all__ = ["CatalogueEntry", "catalogue", "find_entry"]

_TABLE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class CatalogueEntry:
    """A dataset with a name.

    Attributes:
        source: Hub id, or the beginning of a web address that the paths of the files complete.
        licence: As the publisher states it.
        format: Name of the data format.
        template: Name of its template.
        samples: Number of records in `split`, None if unknown.
        notes: What else to know before training on it, and what could not be checked.
        split: The split that is trained on by default.
        subset: Configuration on the hub, where there are several.
        files: The file of each split, for sources that the datasets library cannot open by their id alone.
        gated: Whether the licence must be accepted on the hub, and a token be set.
        columns: The data's column for some of the format's own.
        cut_conversations: Whether conversations are cut into pieces of at most `max_length` tokens.
        name: What `data.source` takes: the key in the file.
    """

    source: str
    licence: str
    format: str
    template: str
    samples: int | None = None
    notes: str = ""
    split: str = "train"
    subset: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    cut_conversations: bool = False
    name: str = ""


@cache
def catalogue() -> Mapping[str, CatalogueEntry]:
    """Return all entries by name; the file is read once.

    Raises:
        ConfigError: If the file is wrong; the message gives each line and key.

    Example:
        >>> catalogue()["alpaca"].samples
        52002
    """
    root = compose_config(_TABLE)
    assert root is not None, _TABLE
    entries = read_typed(dict[str, CatalogueEntry], root, "", str(_TABLE))
    return {name: replace(entry, name=name) for name, entry in entries.items()}


def find_entry(name: str) -> CatalogueEntry | None:
    """Return the entry of this name, or None."""
    return catalogue().get(name)
