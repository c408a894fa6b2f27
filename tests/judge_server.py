"""A server that speaks the OpenAI protocol, judges by a rule, and fails as it is told to, on this machine alone."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "timeout", "broken_json", "drop", "not_json", "no_choices")
# Longer answers win, but one that is shown first wins too if it is hardly shorter.
BIAS = 10


def rule(material: dict[str, str]) -> str:
    return "A" if len(material["answer_A"]) + BIAS >= len(material["answer_B"]) else "B"


def material_of(prompt: str) -> dict[str, str]:
    found: dict[str, str] = json.JSONDecoder().raw_decode(prompt, prompt.index("{"))[0]
    return found


class JudgeServer(ThreadingHTTPServer):
    """`faults`: what goes wrong at the first visits of a request, before it is answered.

    `spread`: each request has as many of them as its digest says, and not all.
    `raw`: the body of each answer, whatever was asked.
    """

    daemon_threads = True

    def __init__(self, faults: Sequence[str] = (), spread: bool = False, hang: float = 0.6, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.faults, self.spread, self.hang = tuple(faults), spread, hang
        self.visits: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.retry_after = "0"
        self.raw: str | None = None
        self.with_usage = True
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def fault_of(self, prompt: str) -> str | None:
        with self.lock:
            visit = self.visits[prompt]
            self.visits[prompt] += 1
        digest = hashlib.sha256(prompt.encode()).digest()
        count = digest[0] % (len(self.faults) + 1) if self.spread else len(self.faults)
        start = digest[1] if self.spread else 0
        fault = self.faults[(start + visit) % len(self.faults)] if visit < count else None
        with self.lock:
            self.done[fault or "answer"] += 1
        return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the game."""


_DRIPPING = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            server.keys.add(self.headers.get("Authorization", ""))
        if server.refuse is not None:
            status, message = server.refuse
            return self._send(status, json.dumps(message))
        prompt = body["messages"][0]["content"]
        fault = server.fault_of(prompt)
        if fault == "429":
            return self._send(429, '{"error": {"message": "slow down"}}', [("Retry-After", server.retry_after)])
        if fault == "500":
            return self._send(500, "oops")
        if fault == "timeout":
            time.sleep(server.hang)
        if fault in ("timeout", "drop"):
            self.close_connection = True
            return None
        if fault in ("drip", "drip_head"):
            return self._drip(b"HTTP/1.1 200 OK\r\nX: " if fault == "drip_head" else _DRIPPING)
        if server.raw is not None:
            return self._send(200, server.raw)
        if fault == "broken_json":
            return self._send(200, '{"choices": [{"mess')
        if fault == "not_json":
            return self._send(200, "<html>busy</html>", content="text/html")
        if fault == "no_choices":
            return self._send(200, '{"object": "chat.completion"}')
        text = "I think that A is better." if fault == "prose" else rule(material_of(prompt))
        completion: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
            ],
        }
        if server.with_usage:
            completion["usage"] = {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}
        with server.lock:
            server.answered[prompt] += 1
        return self._send(200, json.dumps(completion))

    def _send(
        self, status: int, text: str, headers: Sequence[tuple[str, str]] = (), content: str = "application/json"
    ) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in (("Content-Type", content), ("Content-Length", str(len(data))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _drip(self, start: bytes) -> None:
        """Send a byte so often that no wait between two of them is long, for as long as somebody reads."""
        self.close_connection = True
        self.wfile.write(start)
        until = time.monotonic() + 10 * self.server.hang
        while time.monotonic() < until:
            self.wfile.write(b" ")
            time.sleep(0.02)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


@contextmanager
def running(server: JudgeServer) -> Iterator[JudgeServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
