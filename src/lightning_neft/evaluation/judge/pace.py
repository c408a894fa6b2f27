"""When a judge at a server may be asked: the request rate, pauses the server demands, and waits between attempts."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from threading import Event, Lock

__all__ = ["Backoff", "Pace", "retry_after_seconds"]

_LONGEST_PAUSE = 600.0


@dataclass(frozen=True)
class Backoff:
    """Waiting times that double up to a maximum, each shortened at random by up to half.

    The random part depends only on the seed, the request and the attempt, whichever thread asks first.

    Attributes:
        attempts: How often a request is sent, including the first time.
        first: Seconds to wait after the first fault.
        most: The maximum wait in seconds.
        seed: Of the random part.

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
        """Return how long to wait after fault number `fault` of a request, counted from 0."""
        longest = min(self.most, self.first * 2.0**fault)
        return longest * (1 - Random(f"{self.seed}/{key}/{fault}").random() / 2)


class Pace:
    """Gives each request its turn; shared by all threads.

    Args:
        per_minute: Maximum requests per minute; no limit by default.
        clock: A monotonic clock in seconds.
        sleep: Waits for a number of seconds; the default is interrupted by `stop`.
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
        """End all waits, now and later: no further request will be sent."""
        self._stopped.set()

    def wait(self) -> None:
        """Wait for the next free turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._gap
        self.rest(turn - now)

    def rest(self, seconds: float) -> None:
        """Wait, while other threads continue."""
        if seconds > 0:
            self._sleep(seconds)

    def hold(self, seconds: float) -> None:
        """Give no turn for this long: the server asked for a pause."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


def retry_after_seconds(header: str | None, clock: Callable[[], float] = time.time) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date, up to 10 minutes; None if it is neither.

    >>> retry_after_seconds("3.5"), retry_after_seconds("soon")
    (3.5, None)
    """
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - clock()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE) if math.isfinite(seconds) else None
