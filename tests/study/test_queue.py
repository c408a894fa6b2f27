"""The queue that workers share: each arm is claimed once, comes back if its worker dies, and no arm is lost."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from claiming import MEASURES, claimed_by_two
from lightning_neft.errors import ConfigError
from lightning_neft.study import queue as queue_module
from lightning_neft.study.arm import Measures
from lightning_neft.study.plan import Arm, Plan, Search
from lightning_neft.study.queue import ArmQueue, Job

ALPHAS, SEEDS = (0.0, 5.0, 15.0), (0, 1)


def make_queue(
    folder: Path,
    *,
    grace: int = 60,
    pruner: str = "none",
    config: str = "c",
    measures: Measures = MEASURES,
    **plan: Any,
) -> ArmQueue:
    wanted = {"alphas": ALPHAS, "seeds": SEEDS, **plan}
    return ArmQueue(Plan(folder, **wanted), url=None, config=config, measures=measures, pruner=pruner, grace=grace)


def claim(queue: ArmQueue) -> Job:
    job = queue.claim()
    assert job is not None
    return job


def states(queue: ArmQueue) -> dict[Arm, str]:
    return {arm: job.state for job in queue.states() for arm in job.arms}


def test_arms_come_seed_by_seed_with_the_baseline_first(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    taken = []
    while (job := queue.claim()) is not None:
        taken += job.arms
        if len(taken) == 2:
            job.failed("out of paper")
        elif len(taken) == 3:
            job.pruned()
        else:
            job.complete(1.0)
    assert taken == [Arm(alpha, seed) for seed in SEEDS for alpha in ALPHAS]
    found = states(queue)
    assert found.pop(Arm(5.0, 0)) == "failed"
    assert found.pop(Arm(15.0, 0)) == "pruned"
    assert set(found.values()) == {"complete"}
    assert [job.error for job in queue.states() if job.error] == ["out of paper"]


def test_another_queue_on_the_same_storage_adds_nothing_twice(tmp_path: Path) -> None:
    one, other = make_queue(tmp_path), make_queue(tmp_path)
    assert [claim(queue).arms for queue in (one, other, one)] == [(Arm(alpha, 0),) for alpha in ALPHAS]
    assert len(other.states()) == 6
    # More seeds later are new arms; the others stay.
    more = make_queue(tmp_path, seeds=(0, 1, 2))
    assert Counter(states(more).values()) == {"running": 3, "waiting": 6}


def test_arms_that_two_workers_put_there_at_once_are_run_once(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, alphas=(0.0,), seeds=(0,))
    # As if another worker had looked before these were there.
    doubled = {"alpha": 0.0, "seeds": [0]}
    queue.study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=doubled))
    job = claim(queue)
    assert job.arms == (Arm(0.0, 0),)
    assert queue.claim() is None
    job.complete(1.0)
    assert queue.claim() is None
    assert states(queue) == {Arm(0.0, 0): "complete"}


def test_two_racing_processes_never_claim_the_same_arm(tmp_path: Path) -> None:
    # SQLite by itself does not see to that: without the lock at the start of each transaction some are claimed twice.
    plan = Plan(tmp_path, tuple(float(n) for n in range(15)), SEEDS)
    found = claimed_by_two(plan, None)
    assert all(found), "one worker had taken all before the other began"
    assert Counter(arm for arms in found for arm in arms) == {
        Arm(alpha, seed): 1 for alpha in plan.alphas for seed in SEEDS
    }


def test_two_studies_on_one_storage_do_not_mix(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'both.sqlite'}"
    # Of one name, in two folders; some arms are the same.
    plans = [
        Plan(tmp_path / which / "study", (0.0, *alphas), SEEDS) for which, alphas in (("a", (5.0,)), ("b", (5.0, 9.0)))
    ]
    found = claimed_by_two(plans[0], url, plans[1])
    assert sorted(map(sorted, found), key=len) == [
        sorted(Arm(alpha, seed) for alpha in plan.alphas for seed in SEEDS) for plan in plans
    ]
    for plan in plans:
        queue = ArmQueue(plan, url=url, config="c", measures=MEASURES, pruner="none", grace=60)
        assert set(states(queue).values()) == {"complete"}
        assert len(states(queue)) == len(plan.alphas) * len(SEEDS)


def test_the_arm_of_a_dead_worker_is_taken_over_by_one_worker(tmp_path: Path) -> None:
    dead, alive, other = (make_queue(tmp_path, grace=1, seeds=(0,)) for _ in range(3))
    lost = claim(dead)
    assert lost.still_ours()
    rest = [claim(alive), claim(alive)]
    until = time.monotonic() + 20
    while (job := alive.claim()) is None:
        assert time.monotonic() < until
        assert all(one.still_ours() for one in rest)
        time.sleep(0.2)
    assert job.arms == lost.arms == (Arm(0.0, 0),)
    assert other.claim() is None
    # It was only asleep, and wakes: its word counts no more.
    assert not lost.still_ours()
    lost.complete(9.0)
    lost.failed("too late")
    assert states(alive)[Arm(0.0, 0)] == "running"
    job.complete(1.0)
    assert states(alive)[Arm(0.0, 0)] == "complete"
    assert [job.error for job in alive.states()] == [None] * 3


def test_a_worker_that_dies_before_a_heartbeat_is_noticed(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, grace=1, alphas=(0.0,), seeds=(0,))
    with queue_module._without_notices():
        queue.study.ask()  # and no more
    assert queue.claim() is None
    time.sleep(1.2)
    assert claim(queue).arms == (Arm(0.0, 0),)


def test_an_arm_of_which_workers_die_again_and_again_fails(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, alphas=(0.0,), seeds=(0,))
    for _ in range(4):
        job = claim(queue)
        # What the take-over does.
        queue.study.tell(job._trial, state=TrialState.FAIL)
        queue.put_again(queue.frozen(job._trial.number))
    assert queue.claim() is None
    (found,) = queue.states()
    assert (found.state, found.error) == ("failed", "its worker ended 4 times without an error message; out of memory?")


def test_an_arm_that_is_given_back_waits_again_however_often(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, alphas=(0.0,), seeds=(0,))
    for _ in range(6):
        claim(queue).give_back()
    assert claim(queue).arms == (Arm(0.0, 0),)


def test_an_arm_that_is_given_back_comes_first(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    stopped, _ = claim(queue), claim(queue)
    stopped.give_back()
    assert [claim(queue).arms for _ in range(2)] == [(Arm(0.0, 0),), (Arm(15.0, 0),)]


def test_failed_arms_are_run_again_when_that_is_asked_for(tmp_path: Path) -> None:
    one, other = make_queue(tmp_path, seeds=(0,)), make_queue(tmp_path, seeds=(0,))
    for _ in ALPHAS:
        job = claim(one)
        job.failed("no") if job.arms[0].alpha == 5 else job.complete(1.0)
    assert one.claim() is None
    # Two workers at once: run again once.
    one.retry()
    other._put(one.frozen(1), {"retries": 1, "takeovers": 0})
    again = claim(other)
    assert again.arms == (Arm(5.0, 0),)
    assert one.claim() is None
    again.complete(1.0)
    assert set(states(one).values()) == {"complete"}
    assert one.claim() is None


def test_a_pruner_stops_worse_arms_but_never_the_baseline(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, pruner="median", alphas=(0.0, 1.0, 2.0, 3.0), seeds=(0, 1))
    verdicts = {}
    for _ in range(8):
        job = claim(queue)
        (arm,) = job.arms
        # alpha 3 is hopeless, and so is the baseline of the second seed.
        loss = 9.0 if arm.alpha == 3 or arm == Arm(0.0, 1) else 1.0 - arm.alpha / 10
        verdicts[arm] = job.should_stop(arm, 10, loss, 100)
        job.pruned() if verdicts[arm] else job.complete(loss)
    assert [arm for arm, stop in verdicts.items() if stop] == [Arm(3.0, 0), Arm(3.0, 1)]


def test_a_resumed_arm_may_come_by_a_validation_again(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    queue = make_queue(tmp_path, alphas=(0.0,), seeds=(0,))
    job = claim(queue)
    job.should_stop(job.arms[0], 10, 2.0, 100)
    job.give_back()
    again = claim(queue)
    # What it said before it was stopped is known still.
    assert queue.frozen(again._trial.number).intermediate_values == {10: 2.0}
    again.should_stop(again.arms[0], 10, 2.0, 100)
    again.should_stop(again.arms[0], 20, 1.0, 100)
    assert queue.frozen(again._trial.number).intermediate_values == {10: 2.0, 20: 1.0}
    # From Python 3.13 on a connection that another test left to the garbage collector may be told here.
    assert [str(one.message) for one in recwarn if one.category is not ResourceWarning] == []


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_resumed_search_tries_the_same_alphas(tmp_path: Path, sampler: Any) -> None:
    search = Search(1.0, 20.0, trials=7, sampler=sampler)

    def run(folder: Path, stop_at: int | None) -> list[float]:
        queue = make_queue(folder, alphas=(0.0,), search=search)
        alphas: list[float] = []
        while (job := queue.claim()) is not None:
            assert [arm.seed for arm in job.arms] == [0, 1]
            (alpha,) = {arm.alpha for arm in job.arms}
            if len(alphas) == stop_at:
                job.give_back()
                queue, stop_at = make_queue(folder, alphas=(0.0,), search=search), None
                continue
            alphas.append(alpha)
            job.complete((alpha - 7) ** 2)
        return alphas

    unbroken = run(tmp_path / "unbroken", None)
    assert unbroken[0] == 0
    assert len(unbroken) == len(set(unbroken)) == 8
    assert all(1 <= alpha <= 20 for alpha in unbroken[1:])
    assert run(tmp_path / "stopped", 4) == unbroken


@pytest.mark.parametrize(("sampler", "error"), [("tpe", 1.0), ("gp", 0.1)])
def test_a_search_learns_from_the_losses(tmp_path: Path, sampler: Any, error: float) -> None:
    queue = make_queue(tmp_path, alphas=(0.0,), search=Search(1.0, 20.0, trials=12, sampler=sampler))
    alphas: list[float] = []
    while (job := queue.claim()) is not None:
        alphas.append(job.arms[0].alpha)
        job.complete((alphas[-1] - 7) ** 2)
    assert len(set(alphas)) == 13
    # The first five are random.
    by_chance, chosen = ([abs(alpha - 7) for alpha in part] for part in (alphas[1:6], alphas[6:]))
    assert min(chosen) < error < 1.5 < min(by_chance)


def test_two_workers_of_a_search_do_not_exceed_its_trials(tmp_path: Path) -> None:
    search = Search(1.0, 20.0, trials=2)
    one, other = (make_queue(tmp_path, alphas=(0.0,), seeds=(0,), search=search) for _ in range(2))
    jobs = [claim(one), claim(other), claim(one)]
    assert other.claim() is None
    assert one.claim() is None
    assert len({job.arms for job in jobs}) == 3


@pytest.mark.parametrize("changed", [{"answers": 3}, {"max_new_tokens": 8}, {"memorization": 1}])
def test_a_study_with_other_measures_is_refused(tmp_path: Path, changed: dict[str, int]) -> None:
    make_queue(tmp_path)
    with pytest.raises(ConfigError, match="with other --answers, --max-new-tokens or --memorization; give the same, "):
        make_queue(tmp_path, measures=MEASURES._replace(**changed))


def test_a_study_with_another_config_is_refused(tmp_path: Path) -> None:
    make_queue(tmp_path)
    with pytest.raises(ConfigError) as error:
        make_queue(tmp_path, config="other")
    assert str(error.value) == (
        f"the study in {tmp_path} was started with another config; give the same --config and --KEY VALUE, "
        "or another --out"
    )
    with pytest.raises(ConfigError, match="with other --search or --seeds; give the same, or another --out"):
        make_queue(tmp_path, alphas=(0.0,), search=Search(1, 2, trials=3))
