"""A judge over one or more contests: the forecast of the cost, the outcomes, and the choice of the best contestant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_neft.evaluation.judge.contest import Contest, combine, requests_of
from lightning_neft.evaluation.judge.cost import Price, Usage, estimate, usage
from lightning_neft.evaluation.judge.ledger import Record
from lightning_neft.evaluation.judge.outcome import Outcome
from lightning_neft.evaluation.judge.panel import Panel

__all__ = ["Forecast", "best_of", "hold"]


@dataclass(frozen=True)
class Forecast:
    """What will be asked.

    Attributes:
        judge: Name of the judge.
        is_paid: Whether its tokens may cost money.
        pairs: Pairs of answers.
        kept: Requests that already have a verdict in the ledger.
        usage: An estimate for the others.
    """

    judge: str
    is_paid: bool
    pairs: int
    kept: int
    usage: Usage


def hold(
    contests: Sequence[Contest],
    panel: Panel,
    price: Price,
    *,
    on_forecast: Callable[[Forecast], None],
    on_done: Callable[[], None] | None = None,
) -> list[Outcome]:
    """Judge all pairs of all contests, in both orders.

    Args:
        contests: The contests; requests common to several are asked once.
        panel: The judge and its ledger.
        price: Of its tokens.
        on_forecast: Called before anything is asked.
        on_done: Called after each request that was asked.

    Raises:
        ModelError: If the judge cannot be asked; its replies so far are kept.
    """
    asked = {index: requests_of(contest.pairs) for index, contest in enumerate(contests)}
    unique = {request: None for requests in asked.values() for request in requests}
    still_open = panel.open_requests(unique)
    pairs = sum(len(contest.outputs) for contest in contests)
    forecast = estimate(still_open.values(), price)
    judge = panel.judge
    on_forecast(Forecast(judge.name, judge.is_paid, pairs, len(unique) - len(still_open), forecast))
    after = panel.ask_all(unique, on_done)
    return [
        Outcome(
            contest=contest,
            judge=judge.name,
            judged=combine(contest.pairs, after),
            total=usage((after[one] for one in set(asked[index])), price),
            paid=usage((panel.sent.get(panel.key(one), Record()) for one in set(asked[index])), price),
        )
        for index, contest in enumerate(contests)
    ]


def best_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome with the highest raw win rate, the first one of several, as the paper chose its alphas."""

    def rate(outcome: Outcome) -> float:
        given = [one for one in outcome.judged.preferences if one is not None]
        return sum(given) / len(given) if given else -1.0

    return max(outcomes, key=rate)
