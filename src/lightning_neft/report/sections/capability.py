"""Benchmarks of lm-evaluation-harness."""

from __future__ import annotations

from lightning_neft.evaluation.fields import Fields
from lightning_neft.report.content import Block, Note, PageSection, Table
from lightning_neft.report.inputs import Inputs, Result
from lightning_neft.report.numbers import MISSING, number

__all__ = ["capability"]

# End of the name of a metric's standard error.
_ERROR = "_stderr"
_LEAD = "Benchmarks of lm-evaluation-harness: one row per metric of each task, one column per model."


def capability(inputs: Inputs) -> PageSection | None:
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
                if metrics and not _is_error(metric) and not isinstance(metrics.data[metric], (str, bool)):
                    values.setdefault((task, metric), {})[index] = _value(metrics, metric)
    rows = [
        [task, metric, *(cells.get(index, MISSING) for index in range(len(results)))]
        for (task, metric), cells in values.items()
    ]
    columns = ["task", "metric", *(result.label for result in results)]
    blocks: list[Block] = [Table("Benchmarks, with standard errors", columns, rows, frozenset({1}))]
    blocks.extend(Note(text, is_warning=True) for result in results if (text := _caution(result)))
    return PageSection("capability", "Benchmarks", _LEAD, blocks)


def _is_error(metric: str) -> bool:
    return metric.partition(",")[0].endswith(_ERROR)


def _value(metrics: Fields, metric: str) -> str:
    base, comma, chosen = metric.partition(",")
    error = metrics.number(f"{base}{_ERROR}{comma}{chosen}")
    return number(metrics.number(metric)) + ("" if error is None else f" ± {number(error, digits=2)}")


def _caution(result: Result) -> str:
    settings = result.provenance.child("settings")
    limit = settings.number("limit") if settings else None
    if limit is None:
        return ""
    return f"{result.label}: only the first {limit:.0f} documents of each task; do not compare with published numbers."
