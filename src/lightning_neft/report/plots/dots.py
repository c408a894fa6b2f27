"""Values with their intervals, one row each; the arms behind a mean are small circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_neft.report.content import Table
from lightning_neft.report.numbers import MISSING, number
from lightning_neft.report.plots.figure import Theme, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Dot", "Dots"]


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
        reference: A value to mark with a line, and its name.
    """

    what: str
    rows: Sequence[Dot]
    reference: tuple[float, str] | None = None

    def draw(self, theme: Theme) -> Figure:
        """Return the figure."""
        figure, axes = new_figure(theme, 0.8 + 0.36 * len(self.rows))
        axes.grid(visible=False, axis="y")
        if self.reference:
            axes.axvline(self.reference[0], color=theme.text, linewidth=1, linestyle="--")
        for place, row in enumerate(self.rows):
            colour = theme.palette[0]
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
            if len(row.points) > 1:
                places = [place] * len(row.points)
                axes.plot(row.points, places, "o", markersize=5, fillstyle="none", color=theme.text, alpha=0.8)
            axes.plot([row.value], [place], "D", markersize=6, color=colour)
        axes.set_yticks(range(len(self.rows)), [label(row.label) for row in self.rows])
        axes.set_ylim(len(self.rows) - 0.4, -0.6)
        axes.margins(x=0.08)
        figure.supxlabel(
            self.what + (f" (dashed: {self.reference[1]})" if self.reference else ""), color=theme.text, fontsize=10
        )
        return figure

    def table(self, caption: str) -> Table:
        """Return the values."""
        columns = ["row", self.what]
        has_interval = any(row.low is not None for row in self.rows)
        has_points = any(len(row.points) > 1 for row in self.rows)
        columns += ["low", "high"] if has_interval else []
        columns += ["each"] if has_points else []
        return Table(
            caption,
            columns,
            [
                [
                    row.label,
                    number(row.value),
                    *([number(row.low), number(row.high)] if has_interval else []),
                    *([", ".join(map(number, row.points)) or MISSING] if has_points else []),
                ]
                for row in self.rows
            ],
        )

    def sentence(self) -> str:
        """Return the values as a sentence."""
        parts = [
            f"{row.label} {number(row.value)}"
            + (f" ({number(row.low)} to {number(row.high)})" if row.low is not None and row.high is not None else "")
            for row in self.rows
        ]
        return f"{self.what}: {'; '.join(parts)}."
