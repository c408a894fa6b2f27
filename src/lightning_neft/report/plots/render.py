"""Figures as SVG for the page and PNG beside it, the same bytes for the same data."""

from __future__ import annotations

import io
import warnings
from base64 import b64encode

from lightning_neft.report.content import Plot
from lightning_neft.report.plots.theme import Theme

__all__ = ["png", "svg_address"]

_DOTS_PER_INCH = 200


def svg_address(plot: Plot, theme: Theme) -> str:
    """Return a plot as a data: address of an SVG picture, in which a browser runs nothing."""
    return f"data:image/svg+xml;base64,{b64encode(_saved(plot, theme, 'svg')).decode('ascii')}"


def png(plot: Plot, theme: Theme) -> bytes:
    """Return a plot as a PNG file."""
    return _saved(plot, theme, "png")


def _saved(plot: Plot, theme: Theme, kind: str) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    # Ids in the SVG come from its own content, texts are shapes: it looks the same wherever it is opened.
    options = {"svg.hashsalt": "lightning_neft", "svg.fonttype": "path", "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # Signs that the font lacks are drawn as boxes; the table below the plot has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        plot.draw(theme).savefig(
            buffer,
            format=kind,
            dpi=_DOTS_PER_INCH,
            transparent=kind == "svg",
            metadata={"Date": None} if kind == "svg" else {},
        )
    return buffer.getvalue()
