"""The known name that a wrong one was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar of the known names, or None if none is similar.

    Args:
        name: What somebody wrote.
        known: What there is.
        cutoff: The least similarity, from 0 to 1; see `difflib.get_close_matches`.

    Example:
        >>> nearest("alpaka", ["alpaca", "vicuna"]), nearest("x", ["alpaca"])
        ('alpaca', None)
    """
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", cutoff: float = 0.6) -> str:
    """Return the question after a wrong name, or something else where no known name is similar.

    Args:
        name: What somebody wrote.
        known: What there is.
        otherwise: What to say if none is similar.
        cutoff: See `nearest`.

    Example:
        >>> did_you_mean("alpaka", ["alpaca", "vicuna"]), did_you_mean("x", ["alpaca"], "give alpaca")
        ('did you mean alpaca?', 'give alpaca')
    """
    found = nearest(name, known, cutoff)
    return otherwise if found is None else f"did you mean {found}?"
