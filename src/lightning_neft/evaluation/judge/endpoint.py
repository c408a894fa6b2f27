"""A judge at an OpenAI-compatible server, with a total deadline per request and retries."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDoneError
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.evaluation.judge.pace import Backoff, Pace, retry_after_seconds
from lightning_neft.evaluation.judge.request import Reply

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["DEFAULT_KEY_VARIABLE", "DEFAULT_URL", "EndpointJudge", "check_url", "read_key"]

DEFAULT_URL = "https://api.openai.com/v1"

DEFAULT_KEY_VARIABLE = "OPENAI_API_KEY"

# A letter, with room for a space or a quotation mark around it.
_MAX_TOKENS = 8

_TRIES = 3
# Besides the server's own faults (500 and above): request timeout, conflict, rate limit.
_TRANSIENT = (408, 409, 429)
# A 429 that waiting does not fix.
_NO_MONEY = "insufficient_quota"

_SHOWN = 200
# A verdict needs a thousandth of it; an endless answer would fill the memory.
_MAX_BYTES = 1_000_000
# More than any model's reply, and within SQLite's integers.
_MAX_COUNTED = 10**12


class _FaultError(Exception):
    """Why there is no reply to a request that may be sent again, and the pause in seconds that the server demands."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class EndpointJudge:
    """A model that is asked over HTTP: temperature 0, a seed, one letter.

    The retries are not those of the OpenAI client. It would resend neither an answer that is not a completion nor one
    that exceeds the total deadline, has no rate limit, applies Retry-After to one thread alone, and cannot be
    interrupted while it waits.

    Args:
        model: Its name at the server.
        url: The server's address, up to and including `/v1`.
        key: The secret; it is sent to this server only.
        key_variable: The environment variable that the key was read from, for messages.
        timeout: Maximum seconds from the start of a request to the last byte of its answer.
        workers: Maximum number of parallel requests.
        backoff: Waiting times after faults, and the seed of the requests.
        pace: The rate limit; can be shared with other judges at the same server.

    Raises:
        ConfigError: If the extra `judge` is not installed or the address is invalid.
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
        # One client per thread, so that closing it affects no other thread.
        self._clients = threading.local()

    def ask(self, prompt: str, key: str, attempt: int) -> Reply:
        """Return the reply to a prompt, after no more faults than the backoff allows.

        Raises:
            ModelError: If the server refuses the request, or there are too many faults.
        """
        fault = 0
        while True:
            self._pace.wait()
            if self._pace.is_stopped:
                raise ModelError(f"judge {self.name!r} is no longer asked: the run was stopped")
            try:
                return self._send(prompt, self._backoff.seed + attempt)
            except _FaultError as error:
                if fault + 1 == self._backoff.attempts:
                    raise ModelError(
                        f"judge {self.name!r} did not answer in {self._backoff.attempts} attempts, the last one: "
                        f"{error}; its verdicts so far are kept, run the same command again to resume"
                    ) from None
                if error.pause is not None:
                    self._pace.hold(error.pause)
            # Also after a pause: servers name very short ones, and each attempt counts.
            self._pace.rest(self._backoff.seconds(key, fault))
            fault += 1

    def stop(self) -> None:
        """Make requests that wait for another attempt give up."""
        self._pace.stop()

    def _send(self, prompt: str, seed: int) -> Reply:
        """Send a request; at the deadline the connection is closed, however much of the answer has arrived.

        The client's own timeout counts from one byte to the next.
        """
        client = self._client()
        reply: Future[Reply] = Future()

        def send() -> None:
            try:
                reply.set_result(self._request(client, prompt, seed))
            except BaseException as error:
                reply.set_exception(error)

        threading.Thread(target=send, daemon=True).start()
        try:
            return reply.result(self._timeout)
        except NotDoneError:
            del self._clients.own
            client.close()
            raise _FaultError("no answer in time") from None

    def _client(self) -> OpenAI:
        """Return the client of this thread."""
        from openai import OpenAI

        if not hasattr(self._clients, "own"):
            self._clients.own = OpenAI(base_url=self._url, api_key=self._key, max_retries=0, timeout=self._timeout)
        client: OpenAI = self._clients.own
        return client

    def _request(self, client: OpenAI, prompt: str, seed: int) -> Reply:
        import openai

        body = b""
        try:
            with client.chat.completions.with_streaming_response.create(
                model=self.name,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                seed=seed,
                max_tokens=_MAX_TOKENS,
                # Nothing would close the connection after the last request.
                extra_headers={"Connection": "close"},
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise _FaultError(f"the answer has more than {_MAX_BYTES} bytes")
            return _reply(json.loads(body))
        except _FaultError:
            raise
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.APITimeoutError:
            raise _FaultError("no answer in time") from None
        except openai.APIConnectionError as error:
            raise _FaultError(self._shown(f"the connection failed: {error.__cause__ or error}")) from None
        except (openai.OpenAIError, ValueError, RecursionError):
            # Not JSON, or JSON that Python cannot read. It may be anything and is not shown.
            raise _FaultError("the answer is not valid JSON") from None
        # While the body is read: errors of the client's HTTP library, which depends on its version.
        except Exception as error:
            raise _FaultError(self._shown(f"the connection failed: {error}")) from None

    def _status_error(self, error: Any) -> _FaultError | ModelError:
        status = error.status_code
        if status in (401, 403):
            # Servers repeat parts of the key in their message.
            return ModelError(
                f"judge {self.name!r}: the server refuses the key in ${self._key_variable} (status {status})"
            )
        reason = self._shown(f"status {status}: {error.message}")
        if error.code == _NO_MONEY or (status not in _TRANSIENT and status < 500):
            return ModelError(f"judge {self.name!r}: the server refuses the request ({reason})")
        return _FaultError(reason, retry_after_seconds(error.response.headers.get("retry-after")))

    def _shown(self, text: str) -> str:
        line = " ".join(text.replace(self._key, "[key]").split())
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def check_url(url: str) -> None:
    """Check the address of a server.

    Raises:
        ConfigError: If it is not one, or contains a user name, password or query, which would end up in logs.
    """
    # urlsplit drops line breaks and tabs.
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigError(
            "the judge's address contains a space, a line break or another character not allowed in an address; "
            f"use the form {DEFAULT_URL}"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a judge's address: {error}; use the form {DEFAULT_URL}") from None
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"the judge's address at {parts.hostname!r} must contain neither user, password nor query; "
            f"the key is read from the environment (${DEFAULT_KEY_VARIABLE})"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is not a judge's address; use the form {DEFAULT_URL} or http://localhost:8000/v1")


def read_key(variable: str | None, url: str) -> str:
    """Return the secret in an environment variable.

    Args:
        variable: Its name; None for the default one, which is optional for servers other than OpenAI's.
        url: The server's address.

    Raises:
        ConfigError: If a required key is missing, or the key cannot be sent in a header.
    """
    if found := os.environ.get(variable or DEFAULT_KEY_VARIABLE, "").strip():
        if not (found.isascii() and found.isprintable()) or " " in found:
            raise ConfigError(
                f"the key in the environment variable {variable or DEFAULT_KEY_VARIABLE} must be one line of visible "
                "ASCII characters"
            )
        return found
    if variable is None and url != DEFAULT_URL:
        return "no-key"
    raise ConfigError(f"the judge needs a key in the environment variable {variable or DEFAULT_KEY_VARIABLE}")


def _reply(completion: Any) -> Reply:
    """Return the reply in a completion; content that is not a text is empty."""
    try:
        text = completion["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise _FaultError("the answer is not a completion") from None
    usage = completion.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Reply(
        text if isinstance(text, str) else "",
        _count(counts.get("prompt_tokens")),
        _count(counts.get("completion_tokens")),
    )


def _count(tokens: object) -> int | None:
    return tokens if type(tokens) is int and 0 <= tokens <= _MAX_COUNTED else None
