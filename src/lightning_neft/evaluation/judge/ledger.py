"""The ledger: each reply of a judge is saved as soon as it arrives, so that nothing is paid for twice; what it cost."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from lightning_neft.errors import DataError
from lightning_neft.evaluation.judge.request import JudgeRequest, Reply, Verdict, prompt_text, read_verdict

__all__ = ["Ledger", "Price", "Record", "Usage", "estimate", "usage"]

_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, judge TEXT NOT NULL, prompt TEXT NOT NULL, verdict TEXT,
    input_tokens INTEGER, output_tokens INTEGER, time TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (key, attempt))
"""
# Rows are only ever added.
_ADD = """
INSERT OR IGNORE INTO replies (key, attempt, judge, prompt, verdict, input_tokens, output_tokens)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_FIND = "SELECT verdict, input_tokens, output_tokens FROM replies WHERE key = ? ORDER BY attempt"
# Another run locks the file while it writes one row.
_WAIT_SECONDS = 60.0
# Interval for checking a request that another run has sent.
_LOOK_SECONDS = 0.05
# Bytes of a request's position in the lock file.
_PLACE_BYTES = 7


@dataclass(frozen=True)
class Record:
    """The ledger's entry for one request.

    Attributes:
        replies: Number of replies.
        verdict: The first valid verdict; None if there is none yet.
        input_tokens: Of all replies.
        output_tokens: Of all replies.
        uncounted: Replies whose tokens the judge did not report.
    """

    replies: int = 0
    verdict: Verdict | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0

    def __sub__(self, before: Record) -> Record:
        return Record(
            self.replies - before.replies,
            self.verdict,
            self.input_tokens - before.input_tokens,
            self.output_tokens - before.output_tokens,
            self.uncounted - before.uncounted,
        )


class Ledger:
    """An SQLite file of replies, safe for several threads and several runs at once.

    It contains digests, verdicts and token counts, but neither answers nor keys. Requests in flight are marked by locks
    on an empty file next to it, `NAME.lock`; the system releases them when a run ends, even if it is killed.

    Args:
        path: The file, created if it does not exist.

    Raises:
        DataError: If the file is not a ledger or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False)
            with self._connection:
                self._connection.execute(_TABLE)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._locks = os.open(path.with_name(f"{path.name}.lock"), flags, 0o666)
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"the file of verdicts {str(path)!r} cannot be used: {error}; give another one") from error

    def find(self, key: str) -> Record:
        """Return the entry of a request."""
        with self._lock, closing(self._connection.execute(_FIND, (key,))) as rows:
            return _record(rows)

    @contextmanager
    def claim(self, key: str, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Lock a request, so that no other process sends it; wait for a process that does.

        Args:
            key: Key of the request; within a process one thread at a time may lock it.
            is_wanted: Called while it waits; False ends the wait.

        Yields:
            Whether it is locked; False if it is no longer wanted.
        """
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:_PLACE_BYTES], "big")
        while is_wanted():
            try:
                fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):  # which of them depends on the system
                time.sleep(_LOOK_SECONDS)
                continue
            try:
                yield True
            finally:
                fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, place)
            return
        yield False

    def add(self, key: str, attempt: int, judge: str, prompt_version: str, reply: Reply) -> Record:
        """Save a reply permanently and return the updated entry.

        Raises:
            DataError: If it cannot be written, for example on a full disk; earlier replies are kept.
        """
        row = (key, attempt, judge, prompt_version, read_verdict(reply.text), reply.input_tokens, reply.output_tokens)
        try:
            with self._lock, self._connection:
                self._connection.execute(_ADD, row)
        except sqlite3.Error as error:
            raise DataError(
                f"the file of verdicts {str(self.path)!r} cannot be written: {error}; fix that and run the "
                "same command to resume"
            ) from error
        return self.find(key)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        os.close(self._locks)


def _record(rows: Iterable[tuple[Verdict | None, int | None, int | None]]) -> Record:
    found = list(rows)
    return Record(
        replies=len(found),
        verdict=next((verdict for verdict, _, _ in found if verdict is not None), None),
        input_tokens=sum(tokens or 0 for _, tokens, _ in found),
        output_tokens=sum(tokens or 0 for _, _, tokens in found),
        uncounted=sum(first is None or second is None for _, first, second in found),
    )


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
