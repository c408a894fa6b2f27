"""Write the table and the figure of the noise alone in docs/evidence.md from the result of scripts/noise_effect.py.

    python scripts/noise_effect_page.py

replaces docs/figures/noise_effect.svg and the text between the two marks of the page. The rest is written by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from marked_text import replaced
from matplotlib.figure import Figure
from noise_effect import RESULT
from saved_figure import save

from lightning_neft.common.files import write_text
from lightning_neft.evaluation.bootstrap import Interval, paired_interval

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURE = DOCS / "evidence.md", DOCS / "figures" / "noise_effect.svg"
SCRIPT = "scripts/noise_effect_page.py"
# Rises of the loss in nats: one that begins to show, and one that nobody wants.
RISES = (0.1, 0.5)
COLOURS = ("#1f6fb4", "#c2571a")
MARKERS = ("o", "s")


@dataclass(frozen=True)
class Base:
    """What noise does to a base.

    Attributes:
        name: Its name.
        loss: Its held-out loss without noise.
        alphas: The alphas, rising.
        ratios: The noise-to-signal of each.
        rises: How much each raises the held-out loss.
    """

    name: str
    loss: float
    alphas: list[float]
    ratios: list[float]
    rises: list[Interval]

    @classmethod
    def read(cls, found: dict[str, Any]) -> Base:
        """Read a base of the result."""
        baseline, *noisy = found["alphas"]
        without = np.array(baseline["per_sample"])
        return cls(
            found["base"],
            float(without.mean()),
            [each["alpha"] for each in noisy],
            [each["noise_to_signal"] for each in noisy],
            [paired_interval(np.array(each["per_sample"]) - without) for each in noisy],
        )

    def at(self, rise: float, strengths: str) -> float:
        """Return the strength that raises the loss so much, interpolated between those that were measured.

        Args:
            rise: In nats, more than that of the weakest noise.
            strengths: `alphas` or `ratios`.
        """
        values = getattr(self, strengths)
        means = [interval.mean for interval in self.rises]
        above = next(number for number, mean in enumerate(means) if mean >= rise)
        # A small rise grows with the square of the strength: a straight line between logarithms.
        pair = slice(above - 1, above + 1)
        return float(np.exp(np.interp(np.log(rise), np.log(means[pair]), np.log(values[pair]))))


def bases() -> list[Base]:
    """Read the result."""
    return [Base.read(found) for found in json.loads(RESULT.read_text(encoding="utf-8"))["bases"]]


def result_files() -> list[Path]:
    """Return what the page is made from."""
    return [RESULT]


def table(found: Sequence[Base]) -> Iterator[str]:
    """The tables in Markdown, line by line."""
    yield "| base, loss without noise | alpha | noise-to-signal | rise of the loss |"
    yield "|---|---|---|---|"
    for base in found:
        for alpha, ratio, rise in zip(base.alphas, base.ratios, base.rises, strict=True):
            ends = f"{rise.low:+.3f} to {rise.high:+.3f}"
            yield f"| {base.name}, {base.loss:.3f} | {alpha:g} | {ratio:.3f} | {rise.mean:+.3f} ({ends}) |"
    yield ""
    names = " | ".join(base.name for base in found)
    yield f"| rise of the loss | at | {names} | quotient |"
    yield "|---" * (len(found) + 3) + "|"
    for rise in RISES:
        for title, name, decimals in (("alpha", "alphas", 0), ("noise-to-signal", "ratios", 2)):
            values = [base.at(rise, name) for base in found]
            cells = " | ".join(f"{value:.{decimals}f}" for value in values)
            yield f"| {rise} | {title} | {cells} | {values[-1] / values[0]:.1f} |"


def draw(found: Sequence[Base]) -> Figure:
    """The figure: the rise of the loss over alpha, and over noise-to-signal."""
    figure = Figure(figsize=(9.2, 3.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, name in zip(panels, ("alpha", "noise-to-signal"), strict=True):
        for base, colour, marker in zip(found, COLOURS, MARKERS, strict=True):
            means = np.array([rise.mean for rise in base.rises])
            errors = np.array([[rise.mean - rise.low, rise.high - rise.mean] for rise in base.rises]).T
            strengths = base.alphas if name == "alpha" else base.ratios
            panel.errorbar(strengths, means, errors, color=colour, marker=marker, capsize=3, label=base.name)
        panel.set_xscale("log")
        panel.set_yscale("symlog", linthresh=0.1)
        panel.axhline(0, color="#777777", linewidth=0.8)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:g}")
        panel.set_xlabel(name)
    panels[0].set_ylabel("rise of the held-out loss (nats)")
    panels[1].legend(loc="upper left")
    return figure


def page(text: str) -> str:
    """The page with new tables in place of those between the marks."""
    return replaced(text, SCRIPT, table(bases()))


def main() -> None:
    """Write the page and the figure."""
    try:
        text = page(PAGE.read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"{PAGE}: {error}; nothing was written")
    write_text(PAGE, text)
    save(lambda: draw(bases()), FIGURE, result_files())


if __name__ == "__main__":
    main()
