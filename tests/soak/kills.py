"""Lives of a command: killed at random moments and started again, until it ends by itself."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

KILLS = 20


class Process(Protocol):
    """What is killed."""

    def poll(self) -> int | None: ...

    def send(self, number: int) -> int: ...


@dataclass
class Moments:
    """Seconds after its start at which a process is killed: equally likely between two bounds.

    Attributes:
        seed: Of the generator; printed, so that a failure can be had again.
        earliest: The lower bound.
        latest: The upper one.
    """

    seed: int
    earliest: float
    latest: float
    drawn: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        print(f"kills at moments of seed {self.seed}, {self.earliest:.2f} to {self.latest:.2f} s after a start")

    def next(self) -> float:
        """Draw a moment."""
        self.drawn.append(self._random.uniform(self.earliest, self.latest))
        return self.drawn[-1]


def live(start: Callable[[], Process], moments: Moments, most: int = 10 * KILLS) -> int:
    """Start a process, kill it and start it again, until one is done before its moment comes.

    Args:
        start: Starts it.
        moments: When it is killed.
        most: After so many kills it is left alone.

    Returns:
        How often it was killed. The last one ended with exit code 0.
    """
    kills = 0
    while True:
        process, until = start(), time.monotonic() + moments.next()
        while process.poll() is None and (kills == most or time.monotonic() < until):
            time.sleep(0.002)
        code = process.send(signal.SIGKILL)
        if code != -signal.SIGKILL:
            assert code == 0, f"exit code {code} after {kills} kills"
            return kills
        kills += 1
