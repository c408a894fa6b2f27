"""Many requests to a judge that fails: the same verdicts as without faults, each paid for once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from forked import Forked
from judge_server import FAULTS, JudgeServer, running
from lightning_neft.errors import ModelError
from lightning_neft.evaluation.judge.contest import Judged, Pair, combine, requests_of
from lightning_neft.evaluation.judge.endpoint import EndpointJudge
from lightning_neft.evaluation.judge.ledger import Ledger
from lightning_neft.evaluation.judge.pace import Backoff
from lightning_neft.evaluation.judge.panel import Panel
from lightning_neft.evaluation.judge.request import PROMPT_VERSION, Reply

JudgeAt = Callable[..., EndpointJudge]
# Longer wins; as long within the bias of the server means that the first one wins, so that the orders disagree.
EXPECTED = (1.0, 0.0, 0.5) * 4


def judged(panel: Panel, pairs: list[Pair]) -> Judged:
    return combine(pairs, panel.ask_all(requests_of(pairs)))


def test_both_orders_make_one_preference(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer()) as server:
        found = judged(Panel(judge_at(server), ledger), pairs)
    assert found.preferences == EXPECTED
    assert (found.n_inconsistent, found.n_malformed) == (4, 0)
    # Eight pairs have one verdict for each place, four have A both times.
    assert found.first_position_share == 16 / 24
    assert set(server.answered.values()) == {1}
    assert len(server.answered) == 24


def test_the_same_answer_twice_is_a_draw_that_nobody_pays_for(
    pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger
) -> None:
    same = Pair("Question?", "one answer", "one answer")
    with running(JudgeServer()) as server:
        found = judged(Panel(judge_at(server), ledger), [same, pairs[0], same, pairs[2]])
        alone = judged(Panel(judge_at(server), ledger), [same])
    assert found.preferences == (0.5, 1.0, 0.5, 0.5)
    # It tells nothing about the judge's liking for the first place.
    assert (found.n_same, found.n_inconsistent, found.n_malformed) == (2, 1, 0)
    assert found.first_position_share == 3 / 4
    assert len(server.answered) == 4
    assert (alone.preferences, alone.first_position_share) == ((0.5,), None)


def test_requests_are_pinned(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer()) as server:
        judged(Panel(judge_at(server), ledger), pairs[:1])
    body = server.bodies[0]
    assert {name: value for name, value in body.items() if name != "messages"} == {
        "model": "fake",
        "temperature": 0,
        "seed": 0,
        "max_tokens": 8,
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_survived(fault: str, pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer([fault])) as server:
        found = judged(Panel(judge_at(server), ledger), pairs[:3])
    assert found.preferences == EXPECTED[:3]
    assert server.done == {fault: 6, "answer": 6}
    assert set(server.answered.values()) == {1}


def test_all_faults_together_change_no_verdict(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer(FAULTS, spread=True)) as server:
        found = judged(Panel(judge_at(server), ledger), pairs)
    assert found.preferences == EXPECTED
    assert set(server.answered.values()) == {1}
    assert len(server.answered) == 24
    assert all(server.done[fault] for fault in FAULTS)


def test_an_interrupted_run_resumes_and_pays_once(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer()) as server:
        judge = judge_at(server, workers=2)
        ask, asked = judge.ask, []

        def breaking(prompt: str, key: str, attempt: int) -> Reply:
            asked.append(key)
            if len(asked) > 10:
                raise RuntimeError("the machine went down")
            return ask(prompt, key, attempt)

        judge.ask = breaking  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="went down"):
            judged(Panel(judge, ledger), pairs)
        assert sum(server.answered.values()) == 10
        ledger.close()
        found = judged(Panel(judge_at(server), Ledger(ledger.path)), pairs)
    assert found.preferences == EXPECTED
    assert set(server.answered.values()) == {1}


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interruption_does_not_wait_for_further_attempts(pairs: list[Pair], ledger: Ledger) -> None:
    # Half of the requests fail once, and would be sent again after half a minute or more.
    with running(JudgeServer(["500"], spread=True)) as server:
        judge = EndpointJudge("fake", url=server.url, key="k", workers=24, backoff=Backoff(first=60.0))
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Panel(judge, ledger).ask_all(requests_of(pairs), on_done=interrupt)
        assert time.monotonic() - start < 25
    assert server.done["500"]


def test_after_an_interruption_nobody_else_is_asked(pairs: list[Pair], ledger: Ledger) -> None:
    class Slow:
        name, is_paid, workers, tries = "slow", False, 1, 1
        asked = 0

        def ask(self, prompt: str, key: str, attempt: int) -> Reply:
            self.asked += 1
            time.sleep(0.02)
            return Reply("A")

        def stop(self) -> None:
            """It has nothing to wait for."""

    judge = Slow()
    with pytest.raises(KeyboardInterrupt):
        Panel(judge, ledger).ask_all(requests_of(pairs), on_done=interrupt)
    assert judge.asked < 24


def test_no_request_follows_a_verdict_that_cannot_be_saved(
    pairs: list[Pair], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ready:
        name, is_paid, workers, tries = "ready", False, 1, 1
        asked = 0

        def ask(self, prompt: str, key: str, attempt: int) -> Reply:
            self.asked += 1
            return Reply("A")

        def stop(self) -> None:
            """It has nothing to wait for."""

    def full(*args: object) -> None:
        raise ModelError("the disk is full")

    monkeypatch.setattr(ledger, "add", full)
    judge = Ready()
    with pytest.raises(ModelError, match="full"):
        Panel(judge, ledger).ask_all(requests_of(pairs))
    assert judge.asked == 1


def test_a_killed_process_loses_no_verdict(pairs: list[Pair], judge_at: JudgeAt, tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from lightning_neft.evaluation.judge.endpoint import EndpointJudge
        from lightning_neft.evaluation.judge.ledger import Ledger
        from lightning_neft.evaluation.judge.panel import Panel
        from lightning_neft.evaluation.judge.contest import Pair, requests_of
        lengths = [80, 10, 41] * 4
        pairs = [Pair(f"Question {index}?", "m" * length, "b" * 40) for index, length in enumerate(lengths)]
        judge = EndpointJudge("fake", url=sys.argv[1], key="k", workers=1)
        Panel(judge, Ledger(Path(sys.argv[2]))).ask_all(requests_of(pairs))
    """
    path = tmp_path / "verdicts.sqlite"
    with running(JudgeServer()) as server:
        worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), server.url, str(path)])
        while sum(server.answered.values()) < 8 and worker.poll() is None:
            time.sleep(0.001)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        before = sum(server.answered.values())
        assert 8 <= before < 24, "the process was not killed in the middle"
        found = judged(Panel(judge_at(server), Ledger(path)), pairs)
    assert found.preferences == EXPECTED
    # The one reply that was on its way when the process died is the only one that can be asked for again.
    assert sum(server.answered.values()) <= 25


def test_two_runs_on_one_ledger_agree(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer(["500"])) as server, ThreadPoolExecutor(2) as pool:
        panels = [Panel(judge_at(server), Ledger(ledger.path)) for _ in range(2)]
        first, second = pool.map(lambda panel: judged(panel, pairs), panels)
        asked = server.done["answer"]
        again = judged(Panel(judge_at(server), ledger), pairs)
        assert server.done["answer"] == asked
    assert first == second == again
    assert first.preferences == EXPECTED


def test_two_processes_on_one_ledger_pay_each_request_once(
    pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger, tmp_path: Path
) -> None:
    requests = requests_of(pairs)
    together = tmp_path / "together"

    def run(server: JudgeServer, name: str) -> int:
        panel = Panel(judge_at(server, timeout=10), Ledger(ledger.path))
        (tmp_path / f"{name} is ready").touch()
        while not together.exists():
            time.sleep(0.001)
        panel.ask_all(requests)
        (tmp_path / name).write_text(str(sum(record.replies for record in panel.sent.values())))
        return 0

    with running(JudgeServer(["prose"])) as server:
        runs = [Forked(partial(run, server, name), tmp_path / "log") for name in ("first", "second")]
        while len(list(tmp_path.glob("* is ready"))) < 2:
            time.sleep(0.001)
        together.touch()
        assert [one.wait() for one in runs] == [0, 0], (tmp_path / "log").read_text()
        assert set(server.answered.values()) == {2}
    # One reply without a verdict and one with.
    paid = [int((tmp_path / name).read_text()) for name in ("first", "second")]
    assert sum(paid) == 2 * len(set(requests))


def test_a_request_that_a_killed_process_held_is_free(ledger: Ledger, tmp_path: Path) -> None:
    def run() -> int:
        with Ledger(ledger.path).claim("key"):
            (tmp_path / "held").touch()
            time.sleep(60)
        return 0

    other = Forked(run, tmp_path / "log")
    while not (tmp_path / "held").exists():
        time.sleep(0.001)
    looks = iter([True, True, False])
    with ledger.claim("key", is_wanted=lambda: next(looks)) as is_ours:
        assert not is_ours
    with ledger.claim("another") as is_ours:
        assert is_ours
    other.send(signal.SIGKILL)
    with ledger.claim("key") as is_ours:
        assert is_ours


def test_other_replies_are_asked_again_and_then_omitted(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer(["prose"] * 2)) as server:
        assert judged(Panel(judge_at(server), ledger), pairs[:1]).preferences == (1.0,)
        assert sorted(body["seed"] for body in server.bodies) == [0, 0, 1, 1, 2, 2]
    with running(JudgeServer(["prose"] * 3)) as server:
        for _ in range(2):
            found = judged(Panel(judge_at(server), ledger), pairs[1:3])
            assert found.preferences == (None, None)
            assert found.n_malformed == 4
            assert found.first_position_share is None
        # Three times each; the second run knows that.
        assert set(server.answered.values()) == {3}


def test_attempts_of_a_run_before_count(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer(["prose"] * 9)) as server:
        panel = Panel(judge_at(server, workers=1), ledger)
        for request in requests_of(pairs[:1]):
            ledger.add(panel.key(request), 0, "fake", PROMPT_VERSION, Reply("Both are fine."))
        assert judged(panel, pairs[:1]).preferences == (None,)
        assert [body["seed"] for body in server.bodies] == [1, 2, 1, 2]


def test_another_judge_gives_its_own_verdicts(pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger) -> None:
    with running(JudgeServer()) as server:
        first, second = judge_at(server), judge_at(server)
        second.name = "other"
        for judge in (first, second):
            judged(Panel(judge, ledger), pairs[:2])
    assert sum(server.answered.values()) == 8


def test_too_many_faults_end_the_run_and_keep_what_there_is(
    pairs: list[Pair], judge_at: JudgeAt, ledger: Ledger
) -> None:
    with running(JudgeServer(["500"] * 2)) as server:
        judge = judge_at(server, backoff=Backoff(attempts=2), workers=1)
        with pytest.raises(ModelError, match=r"judge 'fake' did not answer in 2 attempts, .*status 500"):
            judged(Panel(judge, ledger), pairs)
        # What had not begun by then is not asked any more.
        assert len(server.visits) <= 2
        found = judged(Panel(judge_at(server), ledger), pairs)
    assert found.preferences == EXPECTED
