"""Figures of the pages: the same file from the same code, with a checksum of the results that it was drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure


def digest(results: Sequence[Path]) -> str:
    """Return the SHA-256 of files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in results)).hexdigest()


def save(draw: Callable[[], Figure], file: Path, results: Sequence[Path]) -> None:
    """Draw a figure and write it as SVG.

    Args:
        draw: Called with the style of the pages.
        file: The figure.
        results: What it is drawn from.
    """
    with matplotlib.rc_context({"svg.hashsalt": "lightning_neft", "svg.fonttype": "path", "font.size": 9}):
        metadata = {"Date": None, "Description": digest(results)}  # no random ids, no date
        draw().savefig(file, metadata=metadata, transparent=True)
