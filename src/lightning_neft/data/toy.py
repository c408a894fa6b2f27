"""The bundled toy data: English instructions in Alpaca's record form, made by scripts/make_toy_data.py."""

from __future__ import annotations

import gzip
import json
from importlib.resources import files
from typing import Literal

__all__ = ["Split", "toy_instructions"]

Split = Literal["train", "held_out"]


def toy_instructions(split: Split) -> list[dict[str, str]]:
    """Return the toy instructions of a split, all kinds mixed, always in the same order.

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
