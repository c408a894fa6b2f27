"""Histograms of several groups, stacked on common axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lightning_neft.report.content import Table
from lightning_neft.report.numbers import count, number, share
from lightning_neft.report.plots.figure import WIDTH, Theme, label, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Histogram"]

_ROW_HEIGHT = 0.95
_BINS = 20


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
        from matplotlib.ticker import PercentFormatter

        edges, shares = self._bins()
        figure = Figure(
            figsize=(WIDTH, 0.75 + _ROW_HEIGHT * len(self.groups)), facecolor=theme.background, layout="constrained"
        )
        rows = figure.subplots(len(self.groups), sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, colour, (name, values), heights in zip(
            rows, theme.colours(len(self.groups)), self.groups, shares, strict=True
        ):
            style(axes, theme)
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(heights, edges, color=colour, linewidth=1.4)
            axes.set_title(f"{label(name)} (n = {len(values):,})", loc="left", fontsize=10, color=theme.text, pad=3)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.locator_params(axis="y", nbins=3)
            if self.threshold:
                axes.axvline(self.threshold[0], color=theme.text, linewidth=1, linestyle="--")
        rows[-1].set_xlabel(self.what + (f" (dashed: {self.threshold[1]})" if self.threshold else ""))
        figure.supylabel("share", color=theme.text, fontsize=10)
        return figure

    def table(self, caption: str) -> Table:
        """Return the share of values in each bin."""
        edges, shares = self._bins()
        return Table(
            f"{caption}: share of values",
            [self.what, *(name for name, _ in self.groups)],
            [
                [f"{number(float(low))} to {number(float(high))}", *(share(float(row[index])) for row in shares)]
                for index, (low, high) in enumerate(pairwise(edges))
            ],
        )

    def sentence(self) -> str:
        """Return the median of each group as a sentence."""
        parts = [f"{name} median {number(median(values))} of {count(len(values))}" for name, values in self.groups]
        return f"Histograms of {self.what}: {'; '.join(parts)}."

    def _bins(self) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.float64]]]:
        """Edges of the bins, and the share of each group's values in each."""
        pooled = np.concatenate([np.asarray(values, dtype=np.float64) for _, values in self.groups])
        edges = np.histogram_bin_edges(pooled, bins=_BINS, range=self.limits)
        return edges, [np.histogram(values, bins=edges)[0] / len(values) for _, values in self.groups]
