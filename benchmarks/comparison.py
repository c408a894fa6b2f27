"""From the records of all rounds to medians, ratios, the targets, and a table."""

from __future__ import annotations

from statistics import median
from typing import Any

Record = dict[str, Any]
Rounds = list[dict[str, Record]]


def compare(rounds: Rounds, gpu: bool) -> Record:
    """Return the summary of each side, and of each target whether it is met.

    Args:
        rounds: Of each round, what each side measured.
        gpu: Whether it was measured on a GPU.
    """
    sides = {side: summary([records[side] for records in rounds]) for side in sorted(rounds[0])}
    return {"sides": sides, "targets": _targets(sides, rounds, gpu)}


def ratio(rounds: Rounds, side: str, other: str, key: str = "tokens_per_second") -> float:
    """Return the median over the rounds of the ratio within a round, which a slow round does not move."""
    return float(median(records[side][key] / records[other][key] for records in rounds))


def table(report: Record) -> str:
    """Return a table of the sides."""
    rounds, sides = report["rounds"], report["sides"]
    first = "trl" if "trl" in sides else next(iter(sides))
    head = f"{'side':17}{'tokens/s':>9}{'range':>15}{'/ ' + first:>15}{'peak GB':>9}{'wall s':>8}"
    lines = [f"{head}{'first':>8}{'of fit':>7}{'padding':>9}  loss"]
    for side, row in sides.items():
        one, peak = rounds[0][side], row.get("peak_cuda", row["peak_rss"]) / 1e9
        lines.append(
            f"{side:17}{row['tokens_per_second']:9.0f}{row['lowest']:8.0f} -{row['highest']:5.0f}"
            f"{ratio(rounds, side, first):15.2f}{peak:9.2f}{row['wall_seconds']:8.0f}"
            f"{row['first_step_after_process']:8.1f}{row['first_step_after_fit']:7.2f}"
            f"{one['padding_share']:9.0%}  {one['first_loss']} -> {one['last_loss']}"
        )
    return "\n".join(lines)


def check_tokens(side: str, record: Record, workload: Record) -> None:
    """End the benchmark where a side did not train on exactly the tokens of the workload."""
    for key in ("tokens", "answer_tokens"):
        if record[key] != workload[key]:
            raise SystemExit(
                f"{side} trained {record[key]} {key} of {workload[key]}: it drops, cuts or repeats samples"
            )


def summary(records: list[Record]) -> Record:
    """Return medians over the rounds, and the range of the speed."""
    speeds = [record["tokens_per_second"] for record in records]
    wanted = ("peak_rss", "peak_cuda", "seconds", "wall_seconds", "first_step_after_process", "first_step_after_fit")
    keys = [key for key in wanted if key in records[0]]
    return {
        "tokens_per_second": median(speeds),
        "lowest": min(speeds),
        "highest": max(speeds),
        **{key: median(record[key] for record in records) for key in keys},
        "settings": records[0]["settings"],
    }


def _targets(sides: dict[str, Record], rounds: Rounds, gpu: bool) -> list[Record]:
    """Return what is aimed at, as far as the sides that it compares took part."""
    trl = [side for side in sides if side.startswith("trl")]
    best = max(trl, key=lambda side: sides[side]["tokens_per_second"], default="")
    wanted = [
        ("ours", "trl", "tokens_per_second", ">=", 1.1 if gpu else 2.5),
        ("ours", "trl", "peak_cuda" if gpu else "peak_rss", "<=", 1.0),
        # The best of both, in the same precision.
        *([] if gpu else [("ours_bf16", best, "tokens_per_second", ">=", 2.0)]),
        ("ours", "hand_grouped", "tokens_per_second", ">=", 0.97),
        ("ours_random", "hand_random", "tokens_per_second", ">=", 0.97),
    ]
    targets = []
    for side, other, key, relation, bound in wanted:
        if side not in sides or other not in sides:
            continue
        if other.startswith("hand") and rounds[0][side]["batches"] != rounds[0][other]["batches"]:
            raise SystemExit(f"{side} and {other} did not train on the same batches: they cannot be compared")
        value = ratio(rounds, side, other, key)
        met = value >= bound if relation == ">=" else value <= bound
        targets.append(
            {"what": f"{key}: {side} / {other}", "value": value, "wanted": f"{relation} {bound}", "met": met}
        )
    if "ours" in sides and "ours_clean" in sides:
        share = 1 - ratio(rounds, "ours_clean", "ours", "seconds")
        targets.append({"what": "share of the noise in a step", "value": share, "wanted": "", "met": None})
    return targets
