"""The known names nearest to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "nearest", "similar"]


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar of the known names, or None if none is similar.

    Args:
        name: The name that was given.
        known: The names that exist.
        cutoff: Minimum similarity, from 0 to 1; see `difflib.get_close_matches`.

    Example:
        >>> nearest("alpaka", ["alpaca", "vicuna"]), nearest("x", ["alpaca"])
        ('alpaca', None)
    """
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def similar(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Return up to three of the known names, the most similar first.

    Args:
        name: The name that was given.
        known: The names that exist.
        cutoff: See `nearest`.

    Example:
        >>> similar("alpaca-gpt", ["alpaca", "vicuna", "alpaca-gpt4"])
        ['alpaca-gpt4', 'alpaca']
    """
    return get_close_matches(name, list(known), n=3, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", cutoff: float = 0.6) -> str:
    """Return the hint for a wrong name, or another text where no known name is similar.

    Args:
        name: The name that was given.
        known: The names that exist.
        otherwise: The text if none is similar.
        cutoff: See `nearest`.

    Example:
        >>> did_you_mean("alpaka", ["alpaca", "vicuna"]), did_you_mean("x", ["alpaca"], "give alpaca")
        ('did you mean alpaca?', 'give alpaca')
    """
    found = nearest(name, known, cutoff)
    return otherwise if found is None else f"did you mean {found}?"
