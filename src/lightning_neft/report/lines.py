"""Curves over steps: the mean over seeds thick, each seed thin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from lightning_neft.evaluation.result import Curve
from lightning_neft.report.content import MISSING, Table, number
from lightning_neft.report.figure import LINE_STYLES, Theme, label, new_figure, widened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LONGEST", "CurveGroup", "Lines", "mean_curve", "thinned"]

# Maximum number of points of a drawn curve.
LONGEST = 200

_HEIGHT = 2.9
# Rows of the data table, which is for reading, not for computing.
_MOST_ROWS = 40

_MARKED = 25


@dataclass(frozen=True)
class CurveGroup:
    """The curves of all arms with one alpha.

    Attributes:
        label: Its name.
        curves: Pairs of step and value for each arm that finished.
        stopped: Curves of arms that failed or were stopped early; not part of the mean.
    """

    label: str
    curves: Sequence[Curve]
    stopped: Sequence[Curve] = ()

    @property
    def mean(self) -> Curve:
        """The mean over the seeds; long curves are averaged over neighbouring steps."""
        return thinned(mean_curve(self.curves))


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of curves at the steps that all of them have.

    Example:
        >>> mean_curve([((1, 2.0), (2, 4.0)), ((1, 4.0),)])
        ((1, 3.0),)
    """
    if not curves:
        return ()
    tables = [dict(curve) for curve in curves]
    common = [step for step, _ in curves[0] if all(step in table for table in tables)]
    return tuple((step, sum(table[step] for table in tables) / len(tables)) for step in common)


def thinned(curve: Curve, most: int = LONGEST) -> Curve:
    """Return a curve with a limited number of points, each the mean of neighbours, at the step of the last one.

    Example:
        >>> thinned(((1, 2.0), (2, 4.0), (3, 6.0), (4, 8.0)), most=2)
        ((2, 3.0), (4, 7.0))
    """
    size = math.ceil(len(curve) / most)
    if size <= 1:
        return curve
    blocks = [[point for _, point in block] for _, block in groupby(enumerate(curve), lambda item: item[0] // size)]
    return tuple((block[-1][0], sum(value for _, value in block) / len(block)) for block in blocks)


@dataclass(frozen=True)
class Lines:
    """Curves of several alphas; the first one is the baseline.

    Attributes:
        what: The value, for the axis.
        groups: One for each alpha, even without curves, so that an alpha has the same colour everywhere.
    """

    what: str
    groups: Sequence[CurveGroup]

    def draw(self, theme: Theme) -> Figure:
        """Return the figure."""
        figure, axes = new_figure(theme, _HEIGHT)
        for index, (group, colour) in enumerate(zip(self.groups, theme.colours(len(self.groups)), strict=True)):
            for curve in group.curves if len(group.curves) > 1 else ():
                axes.plot(*_axes_of(thinned(curve)), color=colour, linewidth=0.7, alpha=0.45)
            for curve in group.stopped:
                axes.plot(*_axes_of(thinned(curve)), ":x", color=colour, linewidth=0.9, alpha=0.6, markevery=[-1])
            if mean := group.mean:
                axes.plot(
                    *_axes_of(mean),
                    color=colour,
                    linewidth=2.0,
                    linestyle=LINE_STYLES[index % len(LINE_STYLES)],
                    label=label(group.label),
                    marker="o" if len(mean) <= _MARKED else None,
                    markersize=3.5,
                )
        axes.set_xlabel("optimizer step")
        # In one line it would be longer than the axis.
        axes.set_ylabel(self.what.replace(", ", "\n"))
        axes.margins(x=0.02)
        axes.set_ylim(*widened(*axes.get_ylim()))
        if axes.get_legend_handles_labels()[0]:
            figure.legend(
                loc="outside lower center",
                ncols=3,
                frameon=False,
                fontsize=10,
                labelcolor=theme.text,
                handlelength=2.4,
                columnspacing=1.2,
            )
        return figure

    def table(self, caption: str) -> Table:
        """Return the means with their number of arms, at some of the steps for long curves."""
        groups = [group for group in self.groups if group.curves]
        means = [dict(group.mean) for group in groups]
        steps = sorted(set().union(*means))
        if len(steps) > _MOST_ROWS:
            last = len(steps) - 1
            steps = sorted({steps[round(index * last / (_MOST_ROWS - 1))] for index in range(_MOST_ROWS)})
            caption = f"{caption}, at {len(steps)} of its steps"
        return Table(
            f"{caption}: mean over the arms",
            ["step", *(f"{group.label} ({len(group.curves)})" for group in groups)],
            [[f"{step:g}", *(_cell(mean.get(step)) for mean in means)] for step in steps],
        )

    def sentence(self) -> str:
        """Return the start and end of the curves as a sentence."""
        parts = [
            f"{group.label} from {_cell(mean[0][1])} to {_cell(mean[-1][1])}"
            for group in self.groups
            if (mean := group.mean)
        ]
        return f"{self.what} over the steps: {'; '.join(parts) or 'no arm finished'}."


def _axes_of(curve: Curve) -> tuple[list[float], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]


def _cell(value: float | None) -> str:
    if value is None:
        return MISSING
    return number(value) if math.isfinite(value) else "not finite"
