"""The cost of judging: an estimate before it starts, and the actual cost from the tokens that the server counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lightning_neft.evaluation.judge.ledger import Record
from lightning_neft.evaluation.judge.request import JudgeRequest, prompt_text

__all__ = ["Price", "Usage", "estimate", "usage"]

# A rule of thumb for English and common vocabularies; the server's own count comes afterwards.
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_VERDICT = 1


@dataclass(frozen=True)
class Price:
    """Price per million tokens, in any one currency; None if unknown.

    Attributes:
        input: Price of the tokens that the judge reads.
        output: Price of the tokens that it writes.
    """

    input: float | None = None
    output: float | None = None

    def of(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the cost of these tokens, or None without both prices.

        >>> Price(input=10, output=30).of(500_000, 100_000)
        8.0
        """
        if self.input is None or self.output is None:
            return None
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


@dataclass(frozen=True)
class Usage:
    """Requests and their tokens.

    Attributes:
        requests: Number of requests that were or would be paid for.
        input_tokens: Tokens that the judge reads.
        output_tokens: Tokens that it writes.
        uncounted: Requests whose tokens the server did not report; they are missing in the numbers above.
        cost: The cost; None without a price.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    uncounted: int
    cost: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the object for a result."""
        return dict(vars(self))


def estimate(requests: Iterable[JudgeRequest], price: Price) -> Usage:
    """Estimate the cost of requests if each is answered at the first try."""
    texts = [prompt_text(request) for request in requests]
    read = sum(-(-len(text) // _CHARACTERS_PER_TOKEN) for text in texts)
    written = _TOKENS_PER_VERDICT * len(texts)
    return Usage(len(texts), read, written, 0, price.of(read, written))


def usage(records: Iterable[Record], price: Price) -> Usage:
    """Add up the cost of a run's verdicts, including those of earlier runs."""
    found = list(records)
    read, written = sum(one.input_tokens for one in found), sum(one.output_tokens for one in found)
    uncounted = sum(one.uncounted for one in found)
    return Usage(sum(one.replies for one in found), read, written, uncounted, price.of(read, written))
