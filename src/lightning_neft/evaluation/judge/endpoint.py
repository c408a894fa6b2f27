"""A judge behind any server that speaks the OpenAI protocol, asked through the official client."""

from __future__ import annotations

import email.utils
import math
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.evaluation.judge.patience import Backoff, Pace
from lightning_neft.evaluation.judge.request import Reply

__all__ = ["DEFAULT_KEY_VARIABLE", "DEFAULT_URL", "EndpointJudge", "check_url", "read_key"]

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


class EndpointJudge:
    """A model that is asked over HTTP: temperature 0, a seed, one letter.

    Args:
        model: Its name at the server.
        url: The server's address up to and with `/v1`.
        key: The secret; it goes to the server and nowhere else.
        key_variable: The environment variable that it came from, for messages.
        timeout: Seconds that one request may take.
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
        from openai import OpenAI

        check_url(url)
        self.name = model
        self.workers = workers
        self._key = key
        self._key_variable = key_variable
        self._backoff = backoff or Backoff()
        self._pace = pace or Pace()
        # The client's own retries draw their waiting times from the global generator, and know no broken answer.
        self._client = OpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout)

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
        import openai

        try:
            completion = self._client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                seed=seed,
                max_tokens=_MOST_TOKENS,
            )
        except openai.APIStatusError as error:
            return self._status_fault(error)
        except openai.APITimeoutError:
            return _Fault("no answer in time")
        except openai.APIConnectionError as error:
            return _Fault(self._shown(f"the connection failed: {error.__cause__ or error}"))
        except (openai.OpenAIError, ValueError):
            # Not JSON, or not the JSON of a completion. What it was may be anything and is not shown.
            return _Fault("the answer is not valid JSON")
        return _reply(completion) or _Fault("the answer is no completion")

    def _status_fault(self, error: Any) -> _Fault:
        status = error.status_code
        if status in (401, 403):
            # Servers repeat parts of the key in their message.
            raise ModelError(
                f"judge {self.name!r}: the server refuses the key in ${self._key_variable} (status {status})"
            ) from None
        reason = self._shown(f"status {status}: {error.message}")
        if error.code == _NO_MONEY or (status not in _PASSING and status < 500):
            raise ModelError(f"judge {self.name!r}: the server refuses the request ({reason})") from None
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
        ConfigError: If there is none and there has to be one, or if it is several words.
    """
    if found := os.environ.get(variable or DEFAULT_KEY_VARIABLE, "").strip():
        # It is sent as a header, and the error about one that cannot be sent would show it.
        if not (found.isascii() and found.isprintable() and " " not in found):
            raise ConfigError(
                f"the key in the environment variable {variable or DEFAULT_KEY_VARIABLE} contains a line break, a "
                "space or a character beyond ASCII; set the variable to the key alone"
            )
        return found
    if variable is None and url != DEFAULT_URL:
        return "no-key"
    raise ConfigError(f"the judge needs a key in the environment variable {variable or DEFAULT_KEY_VARIABLE}")


def _reply(completion: Any) -> Reply | None:
    """Return what a completion says; the client does not check that it has the form of one."""
    try:
        text = completion.choices[0].message.content
    except (AttributeError, IndexError, TypeError):
        return None
    usage = getattr(completion, "usage", None)
    return Reply(
        text if isinstance(text, str) else "",
        _count(getattr(usage, "prompt_tokens", None)),
        _count(getattr(usage, "completion_tokens", None)),
    )


def _count(tokens: object) -> int | None:
    return tokens if isinstance(tokens, int) and tokens >= 0 else None


def _pause(header: str | None, clock: Callable[[], float]) -> float | None:
    """Return the seconds of a Retry-After header, which has a number or a date; None where there is no sense in it."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - clock()
        except ValueError:
            return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE) if math.isfinite(seconds) else None
