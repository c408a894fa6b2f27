"""When to ask a server: never faster than a rate, later after a fault, and not before the time that it names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from threading import Event, Lock

__all__ = ["Backoff", "Pace"]


@dataclass(frozen=True)
class Backoff:
    """Waiting times that double, up to a most, each shortened by up to half.

    By how much depends on the seed, the request and the attempt alone, whichever thread asks first.

    Attributes:
        attempts: How often a request is sent, the first time included.
        first: Seconds after the first fault.
        most: The longest time in seconds.
        seed: Of the shortening.

    >>> backoff = Backoff(first=1.0)
    >>> backoff.seconds("key", 0) == backoff.seconds("key", 0) != backoff.seconds("other", 0)
    True
    >>> 2 <= backoff.seconds("key", 2) <= 4
    True
    """

    attempts: int = 8
    first: float = 1.0
    most: float = 60.0
    seed: int = 0

    def seconds(self, key: str, fault: int) -> float:
        """Return how long to wait after a request's fault number `fault`, which counts from 0."""
        longest = min(self.most, self.first * 2.0**fault)
        return longest * (1 - Random(f"{self.seed}/{key}/{fault}").random() / 2)


class Pace:
    """Gives each request its turn; shared by all threads.

    Args:
        per_minute: The most requests in a minute; no limit by default.
        clock: Seconds that only go up.
        sleep: Waits for a number of seconds; one that `stop` ends by default.
    """

    def __init__(
        self,
        per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._stopped = Event()
        self._gap = 0.0 if per_minute is None else 60.0 / per_minute
        self._clock = clock
        self._sleep = sleep or self._stopped.wait
        self._next = 0.0
        self._lock = Lock()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End all waits, now and later: nobody is to ask any more."""
        self._stopped.set()

    def wait(self) -> None:
        """Wait for the next free turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._gap
        self.rest(turn - now)

    def rest(self, seconds: float) -> None:
        """Wait so long, while others go on."""
        if seconds > 0:
            self._sleep(seconds)

    def hold(self, seconds: float) -> None:
        """Let nobody have a turn for so long: the server asked for that."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
