"""Plots of values: with intervals, one row each, and as histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lightning_neft.report.content import MISSING, Table, count, number
from lightning_neft.report.figure import WIDTH, Theme, label, new_figure, style, widened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Dot", "Dots", "Histogram"]


@dataclass(frozen=True)
class Dot:
    """A row.

    Attributes:
        label: Its name.
        value: The value.
        low: Lower end of its interval.
        high: Upper end of its interval.
        points: The values behind the mean.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    points: Sequence[float] = ()


@dataclass(frozen=True)
class Dots:
    """Values, one per row.

    Attributes:
        what: The value, for the axis.
        rows: From top to bottom.
        reference: A value to mark with a line in the middle of the axis, and its name; without one the axis has its 0.
        sides: What values to its left and to its right mean.
        least: Distance from the reference that the axis covers at least, so that tiny differences look tiny.
    """

    what: str
    rows: Sequence[Dot]
    reference: tuple[float, str] | None = None
    sides: tuple[str, str] | None = None
    least: float = 0.0

    def draw(self, theme: Theme) -> Figure:
        """Return the figure."""
        name = _axis(self.what, self.reference)
        if len(name) > _LABEL:
            name = name.replace(" (dashed", "\n(dashed")
        figure, axes = new_figure(theme, 0.8 + 0.36 * len(self.rows) + 0.2 * (name.count("\n") + bool(self.sides)))
        axes.grid(visible=False, axis="y")
        if self.reference:
            axes.axvline(self.reference[0], color=theme.text, linewidth=1, linestyle="--")
        for place, row in enumerate(self.rows):
            colour = theme.palette[0]
            if row.low is not None and row.high is not None:
                axes.plot(
                    [row.low, row.high],
                    [place, place],
                    color=colour,
                    linewidth=2.2,
                    solid_capstyle="butt",
                    marker="|",
                    markersize=10,
                    markeredgewidth=1.8,
                )
            if len(row.points) > 1:
                places = [place] * len(row.points)
                axes.plot(row.points, places, "o", markersize=5, fillstyle="none", color=theme.text, alpha=0.8)
            axes.plot([row.value], [place], "D", markersize=6, color=colour, clip_on=False)
        axes.set_yticks(range(len(self.rows)), [label(row.label) for row in self.rows])
        axes.set_ylim(len(self.rows) - 0.4, -0.6)
        axes.set_xlim(*self._limits())
        if self.sides:
            for place, side, text in ((0, "left", f"← {self.sides[0]}"), (1, "right", f"{self.sides[1]} →")):
                axes.text(
                    place, 1.0, text, transform=axes.transAxes, ha=side, va="bottom", color=theme.text, fontsize=10
                )
        figure.supxlabel(name, color=theme.text, fontsize=10)
        return figure

    def _limits(self) -> tuple[float, float]:
        shown = [
            value for row in self.rows for value in (row.value, row.low, row.high, *row.points) if value is not None
        ]
        if self.reference:
            middle = self.reference[0]
            half = max(self.least, _MARGIN * max(abs(value - middle) for value in shown)) or 1.0
            return middle - half, middle + half
        low, high = min(0.0, *shown), max(0.0, *shown)
        return _MARGIN * low, _MARGIN * high or 1.0

    def table(self, caption: str) -> Table:
        """Return the values."""
        columns = {"row": [row.label for row in self.rows], self.what: [number(row.value) for row in self.rows]}
        if any(row.low is not None for row in self.rows):
            columns |= {"low": [number(row.low) for row in self.rows], "high": [number(row.high) for row in self.rows]}
        if any(len(row.points) > 1 for row in self.rows):
            columns["each"] = [", ".join(map(number, row.points)) or MISSING for row in self.rows]
        return Table(caption, list(columns), list(zip(*columns.values(), strict=True)))

    def sentence(self) -> str:
        """Return the values as a sentence."""
        parts = [
            f"{row.label} {number(row.value)}"
            + (f" ({number(row.low)} to {number(row.high)})" if row.low is not None and row.high is not None else "")
            for row in self.rows
        ]
        sides = f" Left of the dashed line: {self.sides[0]}; right: {self.sides[1]}." if self.sides else ""
        return f"{self.what}: {'; '.join(parts)}.{sides}"


# Characters in a line of the axis label.
_LABEL = 52
# Of the value that is farthest out, where the axis ends.
_MARGIN = 1.1
_ROW_HEIGHT = 0.95

_BINS = 20


def _axis(what: str, mark: tuple[float, str] | None) -> str:
    return what + (f" (dashed: {mark[1]})" if mark else "")


@dataclass(frozen=True)
class Histogram:
    """The distribution of values, one row per group.

    Attributes:
        what: The value, for the axis.
        groups: Names and values; each group has at least one value.
        limits: Ends of the axis; by default those of the values.
        threshold: A value to mark with a line, and its name.
    """

    what: str
    groups: Sequence[tuple[str, Sequence[float]]]
    limits: tuple[float, float] | None = None
    threshold: tuple[float, str] | None = None

    def draw(self, theme: Theme) -> Figure:
        """Return the figure."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        edges, counts = self._bins()
        figure = Figure(
            figsize=(WIDTH, 0.75 + _ROW_HEIGHT * len(self.groups)), facecolor=theme.background, layout="constrained"
        )
        rows = figure.subplots(len(self.groups), sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, colour, (name, values), heights in zip(
            rows, theme.colours(len(self.groups)), self.groups, counts, strict=True
        ):
            style(axes, theme)
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(heights, edges, color=colour, linewidth=1.4)
            axes.set_title(f"{label(name)} (n = {len(values):,})", loc="left", fontsize=10, color=theme.text, pad=3)
            axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            if self.threshold:
                axes.axvline(self.threshold[0], color=theme.text, linewidth=1, linestyle="--")
        rows[-1].set_xlabel(_axis(self.what, self.threshold))
        figure.supylabel("number of samples", color=theme.text, fontsize=10)
        return figure

    def table(self, caption: str) -> Table:
        """Return the number of samples in each bin."""
        edges, counts = self._bins()
        return Table(
            f"{caption}: number of samples",
            [self.what, *(name for name, _ in self.groups)],
            [
                [f"{number(float(low))} to {number(float(high))}", *(count(float(row[index])) for row in counts)]
                for index, (low, high) in enumerate(pairwise(edges))
            ],
        )

    def sentence(self) -> str:
        """Return the median of each group as a sentence."""
        parts = [f"{name} median {number(median(values))} of {count(len(values))}" for name, values in self.groups]
        return f"Histograms of {self.what}: {'; '.join(parts)}."

    def _bins(self) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.int64]]]:
        """Edges of the bins, and the number of each group's values in each."""
        pooled = np.concatenate([np.asarray(values, dtype=np.float64) for _, values in self.groups])
        limits = self.limits or (float(pooled.min()), float(pooled.max()))
        edges = np.histogram_bin_edges(pooled, bins=_BINS, range=widened(*limits))
        return edges, [np.histogram(values, bins=edges)[0] for _, values in self.groups]
