"""The bundled toy data: English instructions in Alpaca's format, made by scripts/make_toy_data.py."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from importlib.resources import files
from typing import Literal

from typing_extensions import override

from lightning_neft.data.sources.records import Record, Records

__all__ = ["TOY", "Split", "ToyRecords", "toy_instructions"]

TOY = "toy"

Split = Literal["train", "held_out"]


def toy_instructions(split: Split) -> list[dict[str, str]]:
    """Return the toy instructions of a split, all kinds mixed, in a fixed order.

    Args:
        split: "train" (2,400 records) or "held_out" (240 records).

    Returns:
        Records with the keys "instruction", "input" (may be empty), "output", and "kind", one of 20 kinds.

    Raises:
        ValueError: If there is no such split.

    Example:
        >>> list(toy_instructions("held_out")[0].values())
        ['What is the first word?', 'horse, brush, cherry, axe', 'horse', 'first']
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"split must be 'train' or 'held_out', got {split!r}")
    packed = (files("lightning_neft.data") / "toy.jsonl.gz").read_bytes()
    records = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    return [record for record in records if record.pop("split") == split]


class ToyRecords(Records):
    """The bundled instructions as a source.

    Args:
        split: "train" or "held_out".
        has_kind: Whether the records have the column `kind`, which a classifier learns. Otherwise it would be reported
            as ignored.
    """

    def __init__(self, split: Split = "train", has_kind: bool = False) -> None:
        super().__init__(TOY if split == "train" else f"{TOY} ({split})")
        self._split = split
        self._has_kind = has_kind

    @override
    def __iter__(self) -> Iterator[tuple[Record, str]]:
        for number, record in enumerate(self._records, start=1):
            kept = {key: value for key, value in record.items() if self._has_kind or key != "kind"}
            yield kept, f"{self.name}, record {number}"

    @cached_property
    def _records(self) -> list[dict[str, str]]:
        return toy_instructions(self._split)

    @property
    @override
    def fingerprint(self) -> str:
        """SHA-256 over the records."""
        return hashlib.sha256(json.dumps(self._records).encode()).hexdigest()
