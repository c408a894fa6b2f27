"""How every plot looks, on a light and on a dark page and without colour vision, and how it is saved as SVG or PNG."""

from __future__ import annotations

import io
import warnings
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_neft.report.content import Plot

__all__ = [
    "DARK",
    "LIGHT",
    "LINE_STYLES",
    "WIDTH",
    "Theme",
    "label",
    "new_figure",
    "png",
    "style",
    "svg_address",
    "widened",
]

_DOTS_PER_INCH = 200
# Inches; its text is still readable on a phone of 360 pixels.
WIDTH = 4.4

_FONT_SIZE = 10.0
# Share of the largest value on an axis that the axis covers at least.
_LEAST_SPAN = 0.1

_LONGEST_LABEL = 34

LINE_STYLES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Theme:
    """Colours of a plot.

    Attributes:
        background: Of the PNG file; the picture on the page is transparent.
        text: Of words and axes.
        grid: Of lines behind the data.
        baseline: Of the first arm.
        palette: Of the other arms: those of Okabe and Ito, moved until they stand out from the background. Green is
            the last: readers take it for good.
    """

    background: str
    text: str
    grid: str
    baseline: str
    palette: tuple[str, ...]

    def colours(self, n_groups: int) -> list[str]:
        """Return a colour for each group; many groups get shades of one colour map."""
        if n_groups - 1 <= len(self.palette):
            return [self.baseline, *self.palette][:n_groups]
        import matplotlib
        from matplotlib.colors import to_hex

        # Cividis is made for eyes with and without colour vision; its end near the background is omitted.
        first, last = (0.0, 0.62) if self is LIGHT else (0.42, 1.0)
        steps = n_groups - 2
        shades = [first + (last - first) * index / steps for index in range(n_groups - 1)]
        return [self.baseline, *(to_hex(matplotlib.colormaps["cividis"](shade)) for shade in shades)]


LIGHT = Theme("#ffffff", "#3d444d", "#dde1e6", "#1b1f24", ("#0072b2", "#c44e00", "#a8478a", "#8a6a00", "#00795a"))

DARK = Theme("#14181d", "#b6bec8", "#2d343c", "#f0f3f6", ("#56b4e9", "#f28e4b", "#e39ac6", "#e6c229", "#2fc49a"))


def label(text: str) -> str:
    r"""Return a text that is safe for matplotlib: short, one line, no mathematics, no hidden characters.

    Example:
        >>> label("_a $x$")
        'a \\$x\\$'
    """
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split()).lstrip("_ ")
    if len(text) > _LONGEST_LABEL:
        text = f"{text[: _LONGEST_LABEL - 1]}…"
    return text.replace("\\", "/").replace("$", r"\$") or "?"


def new_figure(theme: Theme, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure, not managed by pyplot, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), facecolor=theme.background, layout="constrained")
    axes = figure.add_subplot()
    style(axes, theme)
    return figure, axes


def style(axes: Axes, theme: Theme) -> None:
    """Give axes the colours of a theme."""
    axes.set_facecolor("none")
    axes.grid(True, color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.text)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(colors=theme.text, labelsize=_FONT_SIZE, width=0.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(theme.text)
        axis.label.set_fontsize(_FONT_SIZE)


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis, moved apart if values that hardly differ would fill it.

    Example:
        >>> widened(1.0, 3.0), widened(2.0, 2.0)
        ((1.0, 3.0), (1.9, 2.1))
    """
    least = _LEAST_SPAN * max(abs(low), abs(high)) or 1.0
    if high - low >= least:
        return low, high
    middle = (low + high) / 2
    return middle - least / 2, middle + least / 2


def svg_address(plot: Plot, theme: Theme) -> str:
    """Return a plot as a data: URL of an SVG picture, in which a browser runs no code."""
    return f"data:image/svg+xml;base64,{b64encode(_saved(plot, theme, 'svg')).decode('ascii')}"


def png(plot: Plot, theme: Theme) -> bytes:
    """Return a plot as a PNG file."""
    return _saved(plot, theme, "png")


def _saved(plot: Plot, theme: Theme, kind: str) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    # Ids depend only on the content, and texts are drawn as shapes: the SVG looks the same everywhere.
    options = {"svg.hashsalt": "lightning_neft", "svg.fonttype": "path", "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # Characters missing in the font are drawn as boxes; the table below the plot shows them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        plot.draw(theme).savefig(
            buffer,
            format=kind,
            dpi=_DOTS_PER_INCH,
            transparent=kind == "svg",
            metadata={"Date": None} if kind == "svg" else {},
        )
    return buffer.getvalue()
