"""Draw docs/figures/evidence.svg: what noise did to the held-out loss in the studies of docs/evidence.md.

    python docs/figures/evidence.py

All that is drawn is in benchmarks/results/evidence.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

__all__ = ["Difference", "differences", "draw"]

FILE = Path(__file__).with_suffix(".svg")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "evidence.json"
SOURCES = ("instructions", "texts")
# Name, colour, marker and place beside the tick of each base.
BASES = {"tiny": ("984k weights", "#1f5fa8", "o", -0.13), "width-64": ("279k weights", "#b4501c", "s", 0.13)}


class Difference(NamedTuple):
    """Held-out loss with noise minus that without, over paired seeds, with its 95 % interval."""

    base: str
    source: str
    alpha: float
    difference: float
    low: float
    high: float

    @property
    def leaves_out_zero(self) -> bool:
        """Whether the whole interval is on one side of 0."""
        return self.low > 0 or self.high < 0


def differences() -> list[Difference]:
    """Those of the paper's scale; the relative one was tried in one setting only."""
    settings = json.loads(RESULTS.read_text(encoding="utf-8"))
    return [
        Difference(one["base"], one["source"], row["alpha"], row["difference"], row["low"], row["high"])
        for one in settings
        if one["scale"] == "paper"
        for row in one["rows"]
        if row["alpha"] > 0
    ]


def draw() -> Figure:
    """The figure: a panel for each kind of data, a row for each alpha, a mark for each base."""
    found = differences()
    alphas = sorted({one.alpha for one in found})
    figure = Figure(figsize=(5.2, 4.3), layout="constrained")
    panels = figure.subplots(len(SOURCES), 1)
    for panel, source in zip(panels, SOURCES, strict=True):
        panel.axvline(0, color="#666666", linewidth=0.8)
        for base, (label, colour, marker, beside) in BASES.items():
            for one in (one for one in found if (one.base, one.source) == (base, source)):
                panel.errorbar(
                    one.difference,
                    alphas.index(one.alpha) + beside,
                    xerr=[[one.difference - one.low], [one.high - one.difference]],
                    color=colour,
                    marker=marker,
                    markerfacecolor=colour if one.leaves_out_zero else "none",
                    capsize=3,
                )
            panel.plot([], [], color=colour, marker=marker, label=label)
        panel.set_yticks(range(len(alphas)), [f"alpha {alpha:g}" for alpha in alphas])
        panel.set_ylim(len(alphas) - 0.5, -0.5)
        panel.set_title(f"300 {source}", loc="left")
    panels[0].legend(frameon=False, loc="upper right")
    panels[-1].set_xlabel("held-out loss with noise minus without; left of 0 is better")
    return figure


if __name__ == "__main__":
    # The same file from the same code: no random ids, no date.
    with matplotlib.rc_context({"svg.hashsalt": "lightning_neft", "svg.fonttype": "path", "font.size": 9}):
        draw().savefig(FILE, metadata={"Date": None}, transparent=True)
