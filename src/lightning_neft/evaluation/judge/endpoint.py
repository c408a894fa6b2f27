"""A judge at an OpenAI-compatible server, with a total deadline and waits between attempts."""

from __future__ import annotations

import email.utils
import json
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from random import Random
from threading import Event, Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.evaluation.judge.request import Reply

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["DEFAULT_KEY_VARIABLE", "DEFAULT_URL", "Backoff", "EndpointJudge", "Pace", "check_url", "read_key"]


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


DEFAULT_URL = "https://api.openai.com/v1"

DEFAULT_KEY_VARIABLE = "OPENAI_API_KEY"

# A letter, with room for a space or a quotation mark around it.
_MOST_TOKENS = 8

_TRIES = 3
# Beside the server's faults (500 and above): it timed out, there was a conflict, it was asked too often.
_PASSING = (408, 409, 429)
# A 429 that no waiting helps against.
_NO_MONEY = "insufficient_quota"

_LONGEST_PAUSE = 600.0

_SHOWN = 200
# A letter needs a thousandth of it; one that never ends would fill the memory.
_MOST_BYTES = 1_000_000
# What no reply of a model comes near, and SQLite's whole numbers have room for.
_MOST_COUNTED = 10**12


class EndpointJudge:
    """A model that is asked over HTTP: temperature 0, a seed, one letter.

    Args:
        model: Its name at the server.
        url: The server's address up to and with `/v1`.
        key: The secret; it goes to the server and nowhere else.
        key_variable: The environment variable that it came from, for messages.
        timeout: Seconds that one request may take, from its beginning to the last byte of its answer.
        workers: The most requests at a time.
        backoff: Waiting times after faults, and the seed of the requests.
        pace: The rate limit; shared with other judges at the same server if need be.

    Raises:
        ConfigError: If the extra `judge` is not installed or the address is none.
    """

    is_paid = True
    tries = _TRIES

    def __init__(
        self,
        model: str,
        *,
        url: str = DEFAULT_URL,
        key: str,
        key_variable: str = DEFAULT_KEY_VARIABLE,
        timeout: float = 60.0,
        workers: int = 4,
        backoff: Backoff | None = None,
        pace: Pace | None = None,
    ) -> None:
        if find_spec("openai") is None:
            raise ConfigError("a judge at an endpoint needs the extra judge: pip install 'lightning-neft[judge]'")
        check_url(url)
        self.name = model
        self.workers = workers
        self._url = url
        self._timeout = timeout
        self._key = key
        self._key_variable = key_variable
        self._backoff = backoff or Backoff()
        self._pace = pace or Pace()
        # A client for each thread, which closes it without a loss for the others.
        self._clients = threading.local()

    def ask(self, prompt: str, key: str, attempt: int) -> Reply:
        """Return the reply to a prompt, after as many faults as the backoff allows.

        Raises:
            ModelError: If the server refuses the request, or there are too many faults.
        """
        reason = ""
        for fault in range(self._backoff.attempts):
            self._pace.wait()
            if self._pace.is_stopped:
                raise ModelError(f"judge {self.name!r} is not asked any more")
            outcome = self._send(prompt, self._backoff.seed + attempt)
            if isinstance(outcome, Reply):
                return outcome
            reason = outcome.reason
            if fault + 1 == self._backoff.attempts:
                break
            if outcome.pause is not None:
                self._pace.hold(outcome.pause)
            # Also after a pause: servers name very short ones, and each attempt counts.
            self._pace.rest(self._backoff.seconds(key, fault))
        raise ModelError(
            f"judge {self.name!r} did not answer in {self._backoff.attempts} attempts, the last one: {reason}; "
            "its verdicts so far are kept, run the same command again to go on"
        )

    def stop(self) -> None:
        """Let requests that wait for another attempt give up."""
        self._pace.stop()

    def _send(self, prompt: str, seed: int) -> Reply | _Fault:
        """Send a request; after the time-out the connection is given up, however much of an answer there is.

        The client's own time-out counts from one byte to the next.
        """
        client = self._client()
        found: list[Reply | _Fault | ModelError] = []
        sender = threading.Thread(target=lambda: found.append(self._request(client, prompt, seed)), daemon=True)
        sender.start()
        sender.join(self._timeout)
        if not found:
            del self._clients.own
            client.close()
            return _Fault("no answer in time")
        if isinstance(found[0], ModelError):
            raise found[0]
        return found[0]

    def _client(self) -> OpenAI:
        """Return the client of this thread."""
        from openai import OpenAI

        if not hasattr(self._clients, "own"):
            # Its own retries draw their waiting times from the global generator, and know no broken answer.
            self._clients.own = OpenAI(base_url=self._url, api_key=self._key, max_retries=0, timeout=self._timeout)
        client: OpenAI = self._clients.own
        return client

    def _request(self, client: OpenAI, prompt: str, seed: int) -> Reply | _Fault | ModelError:
        import openai

        body = b""
        try:
            with client.chat.completions.with_streaming_response.create(
                model=self.name,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                seed=seed,
                max_tokens=_MOST_TOKENS,
                # Nobody would be there to close it when the last request is done.
                extra_headers={"Connection": "close"},
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        return _Fault(f"the answer has more than {_MOST_BYTES} bytes")
            return _reply(json.loads(body)) or _Fault("the answer is no completion")
        except openai.APIStatusError as error:
            return self._status_fault(error)
        except openai.APITimeoutError:
            return _Fault("no answer in time")
        except openai.APIConnectionError as error:
            return _Fault(self._shown(f"the connection failed: {error.__cause__ or error}"))
        except (openai.OpenAIError, ValueError, RecursionError):
            # Not JSON, or nothing that Python reads as such. What it was may be anything and is not shown.
            return _Fault("the answer is not valid JSON")
        # While the body is read: those of the client's own library, which depends on its version.
        except Exception as error:
            return _Fault(self._shown(f"the connection failed: {error}"))

    def _status_fault(self, error: Any) -> _Fault | ModelError:
        status = error.status_code
        if status in (401, 403):
            # Servers repeat parts of the key in their message.
            return ModelError(
                f"judge {self.name!r}: the server refuses the key in ${self._key_variable} (status {status})"
            )
        reason = self._shown(f"status {status}: {error.message}")
        if error.code == _NO_MONEY or (status not in _PASSING and status < 500):
            return ModelError(f"judge {self.name!r}: the server refuses the request ({reason})")
        return _Fault(reason, _pause(error.response.headers.get("retry-after"), time.time))

    def _shown(self, text: str) -> str:
        line = " ".join(text.replace(self._key, "[key]").split())
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


class _Fault:
    """Why there is no reply, and the seconds that the server wants to have peace for."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        self.reason = reason
        self.pause = pause


def check_url(url: str) -> None:
    """Check the address of a server.

    Raises:
        ConfigError: If it is none, or holds a user name, password or query, which end up in logs.
    """
    # urlsplit leaves out line breaks and tabs.
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigError(
            "the judge's address holds a space, a line break or another character that no address has; "
            f"give one such as {DEFAULT_URL}"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no address of a judge: {error}; such as {DEFAULT_URL}") from None
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"the judge's address at {parts.hostname!r} must hold neither user, password nor query; "
            f"a key is read from the environment (${DEFAULT_KEY_VARIABLE})"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is no address of a judge; such as {DEFAULT_URL} or http://localhost:8000/v1")


def read_key(variable: str | None, url: str) -> str:
    """Return the secret in an environment variable.

    Args:
        variable: Its name; None for the usual one, which a server other than OpenAI's may do without.
        url: The server's address.

    Raises:
        ConfigError: If there is none and there has to be one, or it cannot stand in a header.
    """
    if found := os.environ.get(variable or DEFAULT_KEY_VARIABLE, "").strip():
        if not (found.isascii() and found.isprintable()) or " " in found:
            raise ConfigError(
                f"the key in the environment variable {variable or DEFAULT_KEY_VARIABLE} has to be one line of visible "
                "ASCII characters"
            )
        return found
    if variable is None and url != DEFAULT_URL:
        return "no-key"
    raise ConfigError(f"the judge needs a key in the environment variable {variable or DEFAULT_KEY_VARIABLE}")


def _reply(completion: Any) -> Reply | None:
    """Return what a completion says, None if it has not the form of one; a content that is no text is empty."""
    try:
        text = completion["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    usage = completion.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Reply(
        text if isinstance(text, str) else "",
        _count(counts.get("prompt_tokens")),
        _count(counts.get("completion_tokens")),
    )


def _count(tokens: object) -> int | None:
    return tokens if type(tokens) is int and 0 <= tokens <= _MOST_COUNTED else None


def _pause(header: str | None, clock: Callable[[], float]) -> float | None:
    """Return the seconds of a Retry-After header, which has a number or a date; None where there is no sense in it."""
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
