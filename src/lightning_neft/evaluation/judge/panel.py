"""Sends a judge the requests of some contests in parallel; each is paid for once, even across interrupted runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Event

from lightning_neft.evaluation.judge.contest import Contest, Outcome, combine, requests_of
from lightning_neft.evaluation.judge.ledger import Ledger, Price, Record, Usage, estimate, usage
from lightning_neft.evaluation.judge.request import PROMPT_VERSION, Judge, JudgeRequest, prompt_text

__all__ = ["Forecast", "Panel", "best_of", "judge_all"]


@dataclass(frozen=True)
class Panel:
    """A judge and the ledger of its replies.

    Attributes:
        judge: The judge.
        ledger: Keeps the replies.
        sent: Replies that the last `ask_all` paid for itself, by key.
    """

    judge: Judge
    ledger: Ledger
    sent: dict[str, Record] = field(default_factory=dict)

    def key(self, request: JudgeRequest) -> str:
        """Return the key of a request to this judge."""
        return request.key(self.judge.name, PROMPT_VERSION)

    def open_requests(self, requests: Iterable[JudgeRequest]) -> dict[str, JudgeRequest]:
        """Return the requests without an answer so far by key, each once."""
        unique = {self.key(request): request for request in requests}
        return {key: request for key, request in unique.items() if not self._is_done(self.ledger.find(key))}

    def ask_all(
        self, requests: Iterable[JudgeRequest], on_done: Callable[[], None] | None = None
    ) -> dict[JudgeRequest, Record]:
        """Ask the open requests and return the ledger's entry for each request.

        Args:
            requests: The requests; duplicates are asked once.
            on_done: Called in this thread after each one that was asked.

        Raises:
            ModelError: If the judge cannot be asked; its replies so far are kept.
        """
        asked = list(requests)
        failed = Event()
        self.sent.clear()
        pool = ThreadPoolExecutor(self.judge.workers, thread_name_prefix="judge")
        # After an error or Ctrl-C nothing new is asked; requests in flight are paid for and therefore awaited.
        try:
            futures: list[Future[None]] = [
                pool.submit(self._ask, key, request, failed) for key, request in self.open_requests(asked).items()
            ]
            for future in as_completed(futures):
                future.result()
                if on_done is not None:
                    on_done()
        except BaseException:
            self.judge.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return {request: self.ledger.find(self.key(request)) for request in asked}

    def _ask(self, key: str, request: JudgeRequest, failed: Event) -> None:
        # Set by the worker itself: until the waiting thread notices, the next request would be sent and paid for.
        try:
            with self.ledger.claim(key, is_wanted=lambda: not failed.is_set()) as is_ours:
                if not is_ours:
                    return
                # Another run may have asked it in the meantime.
                before = record = self.ledger.find(key)
                while not self._is_done(record):
                    reply = self.judge.ask(prompt_text(request), key, record.replies)
                    record = self.ledger.add(key, record.replies, self.judge.name, PROMPT_VERSION, reply)
                    self.sent[key] = record - before
        except BaseException:
            failed.set()
            raise

    def _is_done(self, record: Record) -> bool:
        return record.verdict is not None or record.replies >= self.judge.tries


@dataclass(frozen=True)
class Forecast:
    """The requests to send.

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


def judge_all(
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
    asked = [dict.fromkeys(requests_of(contest.pairs)) for contest in contests]
    unique = {request: None for requests in asked for request in requests}
    still_open = panel.open_requests(unique)
    pairs = sum(len(contest.outputs) for contest in contests)
    judge, forecast = panel.judge, estimate(still_open.values(), price)
    on_forecast(Forecast(judge.name, judge.is_paid, pairs, len(unique) - len(still_open), forecast))
    after = panel.ask_all(unique, on_done)
    sent = {request: panel.sent.get(panel.key(request), Record()) for request in unique}
    return [
        Outcome(
            contest=contest,
            judge=judge.name,
            judged=combine(contest.pairs, after),
            total=usage((after[one] for one in requests), price),
            paid=usage((sent[one] for one in requests), price),
        )
        for contest, requests in zip(contests, asked, strict=True)
    ]


def best_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome with the highest raw win rate, the first one of several, as the paper chose its alphas."""

    def rate(outcome: Outcome) -> float:
        given = [one for one in outcome.judged.preferences if one is not None]
        return sum(given) / len(given) if given else -1.0

    return max(outcomes, key=rate)
