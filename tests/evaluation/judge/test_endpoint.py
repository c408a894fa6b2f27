"""The judge at an endpoint: waits, refusals, and a key that nothing repeats."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from judge_server import JudgeServer, running
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.evaluation.judge.contest import Pair, requests_of
from lightning_neft.evaluation.judge.endpoint import (
    DEFAULT_URL,
    EndpointJudge,
    check_url,
    read_key,
)
from lightning_neft.evaluation.judge.ledger import Ledger
from lightning_neft.evaluation.judge.pace import Backoff, Pace, retry_after_seconds
from lightning_neft.evaluation.judge.panel import Panel
from lightning_neft.evaluation.judge.request import JudgeRequest, prompt_text

JudgeAt = Callable[..., EndpointJudge]
PROMPT = '{"answer_A": "long answer here", "answer_B": ""}'
KEY = "sk-planted-1234567890"


def test_no_request_is_sent_before_the_time_in_retry_after(judge_at: JudgeAt, waits: list[float]) -> None:
    server = JudgeServer(["429"])
    server.retry_after = "17"
    with running(server):
        assert judge_at(server, timeout=10).ask(PROMPT, "key", 0).text == "A"
    # The clock stands still while the test waits, so that the second wait is the whole pause.
    assert waits == [Backoff().seconds("key", 0), pytest.approx(17, abs=0.5)]


def test_waits_double_and_are_the_same_in_each_run(judge_at: JudgeAt, waits: list[float]) -> None:
    for _ in range(2):
        with running(JudgeServer(["500"] * 4)) as server:
            judge_at(server, timeout=10).ask(PROMPT, "key", 0)
    assert waits[:4] == waits[4:]
    assert all(2**index / 2 <= seconds <= 2**index for index, seconds in enumerate(waits[:4]))
    assert Backoff(seed=1).seconds("key", 0) != waits[0] == Backoff(seed=0).seconds("key", 0)
    assert Backoff(most=5).seconds("key", 30) <= 5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("3.5", 3.5),
        ("-4", 0.0),
        ("nan", None),
        ("soon", None),
        ("1e9", 600.0),
        ("9" * 400, None),
        ("Mon, 99 Foo 99999999 00:00:00 GMT", None),
        (formatdate(1030, usegmt=True), 30.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, lambda: 1000.0) == seconds


def test_the_rate_is_never_exceeded() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(per_minute=30, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        pace.wait()
    assert slept == [2.0, 2.0]
    pace.hold(9)
    pace.wait()
    assert slept[-1] == 9.0


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, {"message": f"Incorrect API key provided: {KEY}"}, r"refuses the key in \$MY_KEY \(status 401\)"),
        (400, {"message": f"no temperature for {KEY}"}, r"refuses the request .*no temperature for \[key\]"),
        (404, {"message": "no such model"}, "refuses the request .*no such model"),
        (429, {"message": "no money", "code": "insufficient_quota"}, "refuses the request .*no money"),
        (500, {"message": f"crash with {KEY}"}, r"did not answer in 2 attempts, .*crash with \[key\]"),
    ],
)
def test_refusals_are_one_line_without_the_key(
    status: int, error: dict[str, str], message: str, judge_at: JudgeAt, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = JudgeServer()
    server.refuse = (status, {"error": error})
    with running(server), pytest.raises(ModelError, match=message) as raised:
        judge_at(server, key_variable="MY_KEY", backoff=Backoff(attempts=2)).ask(PROMPT, "key", 0)
    assert server.keys == {f"Bearer {KEY}"}, "the test would pass without a key"
    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value) + caplog.text
    assert len(server.bodies) == (2 if status == 500 else 1)


def test_the_ledger_has_neither_key_nor_answers(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer(["prose"])) as server:
        Panel(judge_at(server), ledger).ask_all(requests_of(pairs[:2]))
    ledger.close()
    written = ledger.path.read_bytes()
    assert b"fake" in written
    assert KEY.encode() not in written
    assert b"mmmm" not in written
    assert b"Question" not in written


def test_tokens_that_the_server_does_not_count_are_unknown(judge_at: JudgeAt) -> None:
    server = JudgeServer()
    server.with_usage = False
    with running(server):
        reply = judge_at(server).ask(PROMPT, "key", 0)
    assert (reply.input_tokens, reply.output_tokens) == (None, None)


def test_the_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="needs a key in the environment variable OPENAI_API_KEY"):
        read_key(None, DEFAULT_URL)
    assert read_key(None, "http://localhost:8000/v1") == "no-key"
    with pytest.raises(ConfigError, match="environment variable MINE"):
        read_key("MINE", "http://localhost:8000/v1")
    monkeypatch.setenv("MINE", " secret\n")
    assert read_key("MINE", DEFAULT_URL) == "secret"


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "https://host/v1?key=secret"])
def test_a_secret_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="must contain neither user, password nor query") as raised:
        check_url(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("part", ["\r\nX-Evil: 1", "\n", "\t", " ", "\x00", "\x7f", "\u2028", "\udcff", "\u00e9"])
@pytest.mark.parametrize("url", ["http://host{}/v1", "http://host/v1{}", "{}http://host/v1", "http://u:secret{}@host"])
def test_an_address_of_several_lines_is_refused_unquoted(url: str, part: str) -> None:
    with pytest.raises(ConfigError, match="a line break or another character not allowed in an address") as raised:
        check_url(url.format(part))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-first\nsk-second", "sk-first\r\nX-Evil: 1", "sk first", "sk-\u00e9", "sk-\x07"])
def test_a_key_unfit_for_a_header_is_refused_unquoted(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", key)
    with pytest.raises(ConfigError, match="variable MINE must be one line of visible ASCII characters") as raised:
        read_key("MINE", DEFAULT_URL)
    assert "sk" not in str(raised.value)


def completion(content: object, **usage: object) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}}], "usage": usage}


@pytest.mark.parametrize(
    ("answer", "text", "counted"),
    [
        (completion("A", prompt_tokens=7, completion_tokens=1), "A", (7, 1)),
        (completion(["A"]), "", (None, None)),
        (completion([{"type": "text", "text": "A"}]), "", (None, None)),
        (completion(None), "", (None, None)),
        (completion(5), "", (None, None)),
        (completion({"A": "A"}), "", (None, None)),
        (completion("A", prompt_tokens=10**30, completion_tokens=True), "A", (None, None)),
        (completion("A", prompt_tokens=-1, completion_tokens="many"), "A", (None, None)),
        (completion("A", prompt_tokens=1.5, completion_tokens=None), "A", (None, None)),
        ({**completion("A"), "usage": [1]}, "A", (None, None)),
        ({**completion("A"), "usage": None}, "A", (None, None)),
        ({**completion("\ud800A\x1b[2J"), "usage": {}}, "\ud800A\x1b[2J", (None, None)),
    ],
)
def test_content_must_be_text_and_counts_must_be_numbers(
    answer: object, text: str, counted: tuple[int | None, int | None], judge_at: JudgeAt, ledger: Ledger
) -> None:
    server = JudgeServer()
    server.raw = json.dumps(answer)
    with running(server):
        reply = judge_at(server).ask(PROMPT, "key", 0)
    assert (reply.text, (reply.input_tokens, reply.output_tokens)) == (text, counted)
    assert ledger.add("key", 0, "fake", "v", reply).replies == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"choices": []}, "the answer is not a completion"),
        ({"choices": None}, "the answer is not a completion"),
        ({"choices": [None]}, "the answer is not a completion"),
        ({"choices": {"0": 1}}, "the answer is not a completion"),
        ({"choices": [{"message": "A"}]}, "the answer is not a completion"),
        ({"choices": [{"message": {}}]}, "the answer is not a completion"),
        ([1], "the answer is not a completion"),
        (None, "the answer is not a completion"),
        ("A", "the answer is not a completion"),
        ("[" * 100_000, "the answer is not valid JSON"),
        ('{"usage": {"prompt_tokens": ' + "9" * 5000 + "}}", "the answer is not valid JSON"),
        ("", "the answer is not valid JSON"),
        (completion("A" * 2_000_000), "the answer has more than 1000000 bytes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_answer_that_is_not_a_completion_is_a_fault(answer: object, reason: str, judge_at: JudgeAt) -> None:
    server = JudgeServer()
    server.raw = answer if isinstance(answer, str) and answer != "A" else json.dumps(answer)
    with running(server), pytest.raises(ModelError, match=f"in 1 attempts, the last one: {reason}"):
        judge_at(server, backoff=Backoff(attempts=1), timeout=5).ask(PROMPT, "key", 0)


@pytest.mark.parametrize("fault", ["drip", "drip_head"])
def test_an_answer_byte_by_byte_gets_no_extra_time(fault: str, judge_at: JudgeAt) -> None:
    with running(JudgeServer([fault])) as server:
        start = time.monotonic()
        judge = judge_at(server, timeout=0.5)
        assert judge.ask(PROMPT, "key", 0).text == "A"
        assert time.monotonic() - start < 10 * server.hang / 2
        assert server.done[fault] == 1


def test_half_of_a_surrogate_pair_is_asked_about_as_its_escape(judge_at: JudgeAt) -> None:
    prompt = prompt_text(JudgeRequest("Say it.", "\ud800", "b"))
    with running(JudgeServer()) as server:
        judge_at(server, backoff=Backoff(attempts=1)).ask(prompt, "key", 0)
    assert "\\ud800" in server.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", ""])
def test_an_address_has_to_be_one(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a judge's address"):
        check_url(url)


def test_without_the_client_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_neft.evaluation.judge.endpoint.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lightning-neft\[judge\]'"):
        EndpointJudge("fake", key="k")
