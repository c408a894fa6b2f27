"""All toy instructions, drawn from a fixed seed."""

from __future__ import annotations

from toy_data.tasks import TASKS
from toy_data.world import Draw

__all__ = ["HELD_OUT_PER_KIND", "TRAIN_PER_KIND", "instructions", "instructions_by_kind"]

TRAIN_PER_KIND = 120
HELD_OUT_PER_KIND = 12

_SEED = 20231009
# Draws before a kind counts as too small; the smallest needs a few hundred.
_MAX_DRAWS = 20_000


def instructions_by_kind(split: str) -> dict[str, list[dict[str, str]]]:
    """Return the records of a split under the name of their kind.

    Args:
        split: "train" (120 records a kind) or "held_out" (12 records a kind). No (instruction, input) pair occurs
            twice, so none of the held-out ones occurs in train.

    Raises:
        RuntimeError: If a kind has too few different requests.

    Example:
        >>> len(instructions_by_kind("held_out")["plural"])
        12
    """
    records: dict[str, list[dict[str, str]]] = {}
    for number, task in enumerate(TASKS):
        # A sequence of its own for each kind: a change of one kind leaves the others as they are.
        draw = Draw(_SEED + number)
        found: dict[tuple[str, str], dict[str, str]] = {}
        for _ in range(_MAX_DRAWS):
            record = {**task.record(draw), "kind": task.kind}
            found.setdefault((record["instruction"], record["input"]), record)
            if len(found) == TRAIN_PER_KIND + HELD_OUT_PER_KIND:
                break
        else:
            raise RuntimeError(f"kind {task.kind!r} has {len(found)} different requests, add phrasings or words to it")
        # Shuffled, because what is found late is what is rarely drawn: held-out records would not look like train.
        mixed = draw.shuffled(list(found.values()))
        records[task.kind] = mixed[:TRAIN_PER_KIND] if split == "train" else mixed[TRAIN_PER_KIND:]
    return records


def instructions(split: str) -> list[dict[str, str]]:
    """Return the records of a split, all kinds mixed, always in the same order."""
    by_kind = instructions_by_kind(split)
    return Draw(_SEED).shuffled([record for records in by_kind.values() for record in records])
