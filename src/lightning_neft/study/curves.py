"""The curves of a run from its CSV logs: several where the run was killed and went on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CURVES", "read_curves"]

CURVES = ("train/loss", "train/clean_loss", "val/loss", "neft/noise_to_signal")


def read_curves(run: Path, names: Sequence[str] = CURVES) -> dict[str, list[list[float]]]:
    """Return points (step, value) of each curve, in the order of the steps.

    Args:
        run: Folder of the run, with a folder `version_N` for each start.
        names: Columns of the logs.
    """
    points: dict[str, dict[int, float]] = {name: {} for name in names}
    # A later start goes on from an earlier step, and logs the steps from there on anew.
    for log in sorted(run.glob("version_*/metrics.csv"), key=_number):
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name in names:
                    if row.get(name):
                        points[name][int(row["step"])] = float(row[name])
    return {name: [[step, value] for step, value in sorted(found.items())] for name, found in points.items()}


def _number(log: Path) -> int:
    return int(log.parent.name.removeprefix("version_"))
