"""Curves of a study's arms by alpha, for the sections that show some."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.report.arms import Study
from lightning_neft.report.content import Block, Chart
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import alpha_name
from lightning_neft.report.plots.lines import LONGEST, Curve, CurveGroup, Lines

__all__ = ["curve_charts"]

_SMOOTHED = "Each point of a long curve is the mean of neighbouring steps."


def curve_charts(inputs: Inputs, curves: Sequence[tuple[str, str, str]]) -> list[Block]:
    """Return a chart for each study and curve that has points.

    Args:
        inputs: With the studies.
        curves: Name in the result, name of the value, and title of each.
    """
    charts: list[Block] = []
    for study in inputs.studies:
        of = f"{study.label}: " if len(inputs.studies) > 1 else ""
        for key, what, title in curves:
            groups = _groups(study, key)
            if any(group.curves or group.stopped for group in groups):
                is_long = any(len(arm.curves.get(key, ())) > LONGEST for arm in study.arms)
                note = _SMOOTHED if is_long else ""
                charts.append(Chart(key.replace("/", "-").replace("_", "-"), f"{of}{title}", Lines(what, groups), note))
    return charts


def _groups(study: Study, key: str) -> list[CurveGroup]:
    return [
        CurveGroup(
            alpha_name(alpha),
            _curves(study, alpha, key, "complete"),
            [*_curves(study, alpha, key, "failed"), *_curves(study, alpha, key, "pruned")],
        )
        for alpha in study.alphas
    ]


def _curves(study: Study, alpha: float, key: str, state: str) -> list[Curve]:
    return [curve for arm in study.of_alpha(alpha, state) if (curve := arm.curves.get(key))]
