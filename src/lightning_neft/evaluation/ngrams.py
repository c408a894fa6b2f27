"""Repetition and diversity of one text, as the paper's code counts them and as they are meant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["DIVERSITY_ORDERS", "Diversity", "diversity", "ngrams", "paper_diversity"]

DIVERSITY_ORDERS = (2, 3, 4)
# A text without any repetition would have an infinite one.
_HIGHEST_LOG_DIVERSITY = 20.0


@dataclass(frozen=True)
class Diversity:
    """What the n-grams of one text say.

    Attributes:
        repetition: For n = 2, 3 and 4: 1 - distinct n-grams / n-grams, from 0 to below 1.
        diversity: Product over n of (1 - repetition).
        log_diversity: -ln(1 - diversity), at most 20.
    """

    repetition: tuple[float, ...]
    diversity: float
    log_diversity: float


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Return all n-grams in their order.

    Example:
        >>> ngrams("a b c".split(), 2)
        [('a', 'b'), ('b', 'c')]
    """
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def diversity(words: Sequence[str]) -> Diversity | None:
    """Return repetition and diversity of a text; None if it has no 4-gram.

    Su et al. (arXiv 2202.06417, section 4.1.1) define repetition and diversity, Kirchenbauer et al. (arXiv 2306.04634)
    the logarithm with its bound.

    Args:
        words: The text, split.

    Example:
        >>> found = diversity("a b a b a".split())
        >>> [round(value, 3) for value in found.repetition], round(found.diversity, 3), round(found.log_diversity, 3)
        ([0.5, 0.333, 0.0], 0.333, 0.405)
    """
    return _diversity([ngrams(words, n) for n in DIVERSITY_ORDERS], scale=1.0)


def paper_diversity(words: Sequence[str]) -> Diversity | None:
    """Return the same as the code behind the paper's table has it; None if it would divide by zero.

    That is lm-watermarking's `repetition_diversity.py`, after SimCTG's `evaluation.py`. Two of its properties are
    slips, and kept here: the last n-gram of the text is left out, and each repetition, a fraction already, is divided
    by 100 once more on its way into the diversity, as if it were in percent.

    Args:
        words: The text, split at white space.

    Example:
        >>> found = paper_diversity("a b a b a".split())
        >>> [round(value, 3) for value in found.repetition], round(found.log_diversity, 3)
        ([0.333, 0.0, 0.0], 5.704)
    """
    return _diversity([ngrams(words, n)[:-1] for n in DIVERSITY_ORDERS], scale=100.0)


def _diversity(orders: Sequence[Sequence[tuple[str, ...]]], scale: float) -> Diversity | None:
    if not all(orders):
        return None
    repetition = tuple(1 - len(set(found)) / len(found) for found in orders)
    product = math.prod(1 - share / scale for share in repetition)
    return Diversity(repetition, product, -math.log(max(1 - product, math.exp(-_HIGHEST_LOG_DIVERSITY))))
