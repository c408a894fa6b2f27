"""The embedded toy data: English instructions in Alpaca's record form, generated from a fixed seed."""

from __future__ import annotations

from typing import Literal

from lightning_neft.data.toy_prose import toy_text
from lightning_neft.data.toy_tasks import TASKS
from lightning_neft.data.toy_world import Draw

__all__ = ["CLOSED_KINDS", "TOY_KINDS", "toy_instructions", "toy_instructions_by_kind", "toy_text"]

Split = Literal["train", "held_out"]

TOY_KINDS: tuple[str, ...] = tuple(task.kind for task in TASKS)
# Kinds with one right answer each: there an exact match is worth counting.
CLOSED_KINDS: tuple[str, ...] = tuple(task.kind for task in TASKS if task.closed)

_SEED = 20231009
_TRAIN_PER_KIND = 120
_HELD_OUT_PER_KIND = 12
# Draws before a kind counts as too small; the smallest needs a few hundred.
_MOST_DRAWS = 20_000


def toy_instructions_by_kind(split: Split) -> dict[str, list[dict[str, str]]]:
    """Return the records of a split under the name of their kind.

    Args:
        split: "train" (120 records a kind) or "held_out" (12 records a kind). No (instruction, input) pair occurs
            twice, so none of the held-out ones occurs in train.

    Raises:
        ValueError: If there is no such split.

    Example:
        >>> len(toy_instructions_by_kind("held_out")["plural"])
        12
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"split must be 'train' or 'held_out', got {split!r}")
    records: dict[str, list[dict[str, str]]] = {}
    for number, task in enumerate(TASKS):
        # A sequence of its own for each kind: a change of one kind leaves the others as they are.
        draw = Draw(_SEED + number)
        found: dict[tuple[str, str], dict[str, str]] = {}
        for _ in range(_MOST_DRAWS):
            record = {**task.record(draw), "kind": task.kind}
            found.setdefault((record["instruction"], record["input"]), record)
            if len(found) == _TRAIN_PER_KIND + _HELD_OUT_PER_KIND:
                break
        else:
            raise RuntimeError(f"kind {task.kind!r} has {len(found)} different requests, add phrasings or words to it")
        # Shuffled, because what is found late is what is rarely drawn: held-out records would not look like train.
        mixed = draw.shuffled(list(found.values()))
        records[task.kind] = mixed[:_TRAIN_PER_KIND] if split == "train" else mixed[_TRAIN_PER_KIND:]
    return records


def toy_instructions(split: Split) -> list[dict[str, str]]:
    """Return the toy instructions of a split, all kinds mixed, always in the same order.

    Args:
        split: "train" (2,400 records) or "held_out" (240 records).

    Returns:
        Records with the keys "instruction", "input" (may be empty), "output", and "kind", one of `TOY_KINDS`.

    Raises:
        ValueError: If there is no such split.

    Example:
        >>> list(toy_instructions("held_out")[0].values())
        ['What is the first word?', 'horse, brush, cherry, axe', 'horse', 'first']
    """
    by_kind = toy_instructions_by_kind(split)
    return Draw(_SEED).shuffled([record for records in by_kind.values() for record in records])
