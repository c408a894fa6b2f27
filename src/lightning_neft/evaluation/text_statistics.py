"""Lengths, repetition and diversity of texts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "COLUMNS",
    "DIVERSITY_ORDERS",
    "Diversity",
    "TextStatistics",
    "diversity",
    "ngrams",
    "paper_diversity",
    "statistics_of",
    "token_counts",
]


DIVERSITY_ORDERS = (2, 3, 4)
# A text without any repetition would have an infinite one.
_HIGHEST_LOG_DIVERSITY = 20.0


@dataclass(frozen=True)
class Diversity:
    """Repetition and diversity of one text.

    Attributes:
        repetition: For n = 2, 3 and 4: 1 - distinct n-grams / n-grams, from 0 to below 1.
        diversity: Product over n of (1 - repetition).
        log_diversity: -ln(1 - diversity), limited to 20.
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
    """Return the same as computed by the code behind the paper's table; None if it would divide by zero.

    That is lm-watermarking's `repetition_diversity.py`, after SimCTG's `evaluation.py`. Two of its properties are
    mistakes, reproduced here: the last n-gram of the text is dropped, and each repetition, already a fraction, is
    divided by 100 before it enters the diversity, as if it were in percent.

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


_LENGTHS = ("characters", "words", "tokens")
COLUMNS = (
    *_LENGTHS,
    *(f"repetition_{n}" for n in DIVERSITY_ORDERS),
    "diversity",
    "log_diversity",
    *(f"repetition_{n}_paper" for n in DIVERSITY_ORDERS),
    "log_diversity_paper",
)
"""The statistics of each text, in the order of the state's columns."""
_DISTINCT_ORDERS = (1, 2, 3, 4)
_UNKNOWN = math.nan
_NONE = Diversity((_UNKNOWN,) * len(DIVERSITY_ORDERS), _UNKNOWN, _UNKNOWN)


class TextStatistics(Metric):
    """Statistics of texts, over all that it was updated with, on all ranks.

    Lengths are those of whole texts: characters are Unicode code points, words are separated by white space. The other
    statistics cover the first words of each text if `first_k_tokens` is given, and omit texts with fewer words; a text
    without a 4-gram has no repetition and no diversity. Means are over the texts that have a value.
    `distinct_n` is Li et al.'s (arXiv 1510.03055): different n-grams of all texts together over all their n-grams. It
    falls with the amount of text, so that only equally long texts can be compared by it.

    Args:
        first_k_tokens: How many words of each text count for repetition, diversity and distinct n-grams; all by
            default. The paper took 50, 100 or 150.

    Raises:
        ConfigError: If first_k_tokens leaves no 4-gram.

    Example:
        >>> statistics = TextStatistics()
        >>> statistics.update(["a b a b a", "one two"])
        >>> found = statistics.compute()
        >>> found["mean_characters"].item(), found["repetition_2"].item(), found["n_without_diversity"].item()
        (8.0, 0.5, 1.0)
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, first_k_tokens: int | None = None) -> None:
        super().__init__()
        # The variant of the paper needs one word more than a 4-gram.
        least = max(DIVERSITY_ORDERS) + 1
        if first_k_tokens is not None and first_k_tokens < least:
            raise ConfigError(
                f"first_k_tokens must be {least} or more, so that there are 4-grams, got {first_k_tokens}"
            )
        self.first_k_tokens = first_k_tokens
        self.add_state("rows", [], dist_reduce_fx="cat")
        for n in _DISTINCT_ORDERS:
            self.add_state(f"ngrams_{n}", [], dist_reduce_fx="cat")

    @override
    def update(self, texts: Sequence[str], tokens: Sequence[int] | None = None) -> None:
        """Add texts.

        Args:
            texts: The texts.
            tokens: How many tokens each of them has; without them there is no mean of these.
        """
        counts = [_UNKNOWN] * len(texts) if tokens is None else tokens
        rows = []
        for text, count in zip(texts, counts, strict=True):
            words = text.split()
            rows.append([len(text), len(words), count, *self._add_ngrams(words)])
        self.rows.append(torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(COLUMNS)))

    def _add_ngrams(self, words: Sequence[str]) -> Iterator[float]:
        """Add a text's n-grams to the state and yield its columns after the lengths."""
        first = words if self.first_k_tokens is None else words[: self.first_k_tokens]
        if self.first_k_tokens is not None and len(words) < self.first_k_tokens:
            first = []
        for n in _DISTINCT_ORDERS:
            getattr(self, f"ngrams_{n}").append(_numbers(ngrams(first, n)))
        found, paper = diversity(first) or _NONE, paper_diversity(first) or _NONE
        yield from (*found.repetition, found.diversity, found.log_diversity, *paper.repetition, paper.log_diversity)

    @override
    def compute(self) -> dict[str, Tensor]:
        """Return scalars by name: counts, means (NaN where no text has a value), and `distinct_n`."""
        rows = self.per_text()
        means = torch.nanmean(rows, dim=0)
        found = {"n_total": torch.tensor(float(len(rows))), "n_empty": (rows[:, 1] == 0).sum().double()}
        k = self.first_k_tokens
        found["n_short"] = torch.zeros(()) if k is None else (rows[:, 1] < k).sum().double()
        for index, name in enumerate(COLUMNS):
            found[f"mean_{name}" if name in _LENGTHS else name] = means[index]
        for suffix, column in (("", "log_diversity"), ("_paper", "log_diversity_paper")):
            found[f"n_without_diversity{suffix}"] = rows[:, COLUMNS.index(column)].isnan().sum().double()
        for n in _DISTINCT_ORDERS:
            numbers = _joined(getattr(self, f"ngrams_{n}"), torch.zeros(0, dtype=torch.int64))
            share = torch.unique(numbers).numel() / len(numbers) if len(numbers) else _UNKNOWN
            found[f"distinct_{n}"] = torch.tensor(share, dtype=torch.float64)
        return found

    def per_text(self) -> Tensor:
        """Return float64 (texts, columns): the columns of `COLUMNS`, NaN where a text has no value."""
        return _joined(self.rows, torch.zeros(0, len(COLUMNS), dtype=torch.float64))


def _numbers(found: Sequence[tuple[str, ...]]) -> Tensor:
    """Return int64 (n,), a number for each n-gram that is the same in every process, unlike Python's own hash."""
    # Words contain no white space, so the joined text is unambiguous.
    digests = (hashlib.blake2b(" ".join(words).encode(errors="surrogatepass"), digest_size=8) for words in found)
    return torch.tensor([int.from_bytes(digest.digest(), "big", signed=True) for digest in digests], dtype=torch.int64)


def _joined(state: Any, empty: Tensor) -> Tensor:
    """Return a list state as one tensor; after a reduction over ranks it is one already."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else empty


def statistics_of(
    texts: Sequence[str], *, tokens: Sequence[int] | None = None, first_k_tokens: int | None = None
) -> dict[str, Any]:
    """Return the metrics of a result of the kind text_statistics; None for what has no value.

    Args:
        texts: The texts.
        tokens: How many tokens each of them has.
        first_k_tokens: See `TextStatistics`.

    Raises:
        ConfigError: If first_k_tokens leaves no 4-gram.

    Example:
        >>> found = statistics_of(["a b a b a", "one"])
        >>> found["n_total"], found["mean_words"], found["mean_tokens"], found["per_sample"]["repetition_2"]
        (2, 3.0, None, [0.5, None])
    """
    metric = TextStatistics(first_k_tokens)
    metric.update(texts, tokens)
    found = {name: _plain(value.item()) for name, value in metric.compute().items()}
    counts = {name: int(value) for name, value in found.items() if value is not None and name.startswith("n_")}
    per_sample: dict[str, list[Any]] = {}
    for name, column in zip(COLUMNS, metric.per_text().T.tolist(), strict=True):
        if name not in _LENGTHS:
            per_sample[name] = [_plain(value) for value in column]
        elif name != "tokens" or tokens is not None:
            per_sample[name] = [int(value) for value in column]
    return {**found, **counts, "first_k_tokens": first_k_tokens, "per_sample": per_sample}


def token_counts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    """Return how many tokens each text has, without special ones.

    Example:
        >>> from lightning_neft.hub.tokenizer import load_tokenizer
        >>> token_counts(load_tokenizer("tiny"), ["", "a"])
        [0, 1]
    """
    if not texts:
        return []
    # verbose would warn of texts too long for the model, which does not read them here.
    return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
