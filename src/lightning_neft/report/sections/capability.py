"""Benchmarks of lm-evaluation-harness."""

from __future__ import annotations

from lightning_neft.report.content import Section, Table
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import MISSING, number

__all__ = ["capability"]

_LEAD = "Benchmarks of lm-evaluation-harness, a row for each metric of each task, a column for each model."


def capability(inputs: Inputs) -> Section | None:
    """Return the section; None without benchmarks."""
    results = inputs.of_kind("capability")
    if not results:
        return None
    values: dict[tuple[str, str], dict[int, str]] = {}
    for index, result in enumerate(results):
        tasks = result.fields.child("tasks")
        for task in tasks.names() if tasks else []:
            metrics = tasks.child(task) if tasks else None
            for metric in metrics.names() if metrics else []:
                if metrics and not isinstance(metrics.data[metric], (str, bool)):
                    values.setdefault((task, metric), {})[index] = number(metrics.number(metric))
    rows = [
        [task, metric, *(cells.get(index, MISSING) for index in range(len(results)))]
        for (task, metric), cells in values.items()
    ]
    columns = ["task", "metric", *(result.label for result in results)]
    return Section("capability", "Benchmarks", _LEAD, [Table("Benchmarks", columns, rows, frozenset({1}))])
