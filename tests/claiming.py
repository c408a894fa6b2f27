"""Two processes that take arms from a queue as fast as they can, for tests of storages."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from lightning_neft.study.arm import Measures
from lightning_neft.study.plan import Arm, Plan
from lightning_neft.study.queue import ArmQueue

MEASURES = Measures(answers=2, max_new_tokens=4, memorization=0)


def claimed_by_two(plan: Plan, url: str | None, other: Plan | None = None) -> list[list[Arm]]:
    """Return what each of two processes got that began at the same moment, on one study or on two."""
    context = multiprocessing.get_context("forkserver")
    together, taken = context.Barrier(2), context.Queue()
    plans = (plan, plan if other is None else other)
    workers = [context.Process(target=_take_all, args=(one, url, together, taken)) for one in plans]
    for worker in workers:
        worker.start()
    found = [taken.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    return found


def _take_all(plan: Plan, url: str | None, together: Any, taken: Any) -> None:
    queue = ArmQueue(plan, url=url, config="c", measures=MEASURES, pruner="none", grace=60)
    together.wait(timeout=120)
    arms = []
    while (job := queue.claim()) is not None:
        arms += job.arms
        time.sleep(0.01)
        job.complete(1.0)
    taken.put(arms)
