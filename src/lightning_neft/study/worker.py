"""`Worker`: runs the arms of the queue one after the other, each in its own process, until none is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, Protocol

from lightning_neft.study.arm import ArmTask, Child, Failed, Measures, Progress, Validated, describe_exit, read_record
from lightning_neft.study.plan import Arm
from lightning_neft.study.queue import ArmQueue, Job
from lightning_neft.study.storage import HEARTBEATS

__all__ = ["Listener", "Stopped", "Worker"]

_TICK = 0.25
_SECONDS_BETWEEN_LOOKS = 2.0
_Outcome = Literal["complete", "failed", "pruned", "stopped", "lost"]


class Stopped(BaseException):
    """The worker stopped at the user's request.

    Attributes:
        signal: The signal it received.
        arm: The arm that was running; None between two arms.
    """

    def __init__(self, number: signal.Signals, arm: Arm | None) -> None:
        super().__init__(number, arm)
        self.signal = number
        self.arm = arm


class Listener(Protocol):
    """Receives the events of a worker."""

    def started(self, arm: Arm) -> None:
        """An arm starts."""

    def progress(self, arm: Arm, step: int, steps: int) -> None:
        """It has done this many steps."""

    def ended(self, arm: Arm, outcome: str, error: str | None) -> None:
        """It has ended: complete, failed or pruned."""

    def waits(self, arms: int) -> None:
        """No arm is left to claim, but other workers run this many."""


class Worker:
    """Runs the arms of a queue.

    Args:
        queue: The queue.
        run_arm: What an arm's process runs with an `ArmTask`, as `module:name`.
        args: The command line of a fit, without alpha, seed and folder.
        measures: What is measured of each arm.
        grace: Seconds after which a worker without a heartbeat counts as dead.
        listener: Receives the events.
    """

    def __init__(
        self,
        queue: ArmQueue,
        run_arm: str,
        args: tuple[str, ...],
        measures: Measures,
        grace: int,
        listener: Listener,
    ) -> None:
        self._queue, self._run_arm, self._args, self._measures = queue, run_arm, args, measures
        self._listener = listener
        self._seconds_between_beats = grace / HEARTBEATS
        self._asked: signal.Signals | None = None
        self._child: Child | None = None

    def run(self) -> bool:
        """Run arms until all of the study have ended, those of other workers too.

        Returns:
            Whether this worker finished the last arm.

        Raises:
            Stopped: After SIGINT or SIGTERM; the running arm has been saved, and waits for a worker.
        """
        ended_last = False
        with self._signals():
            while True:
                self._stop_if_asked(None)
                if (job := self._queue.claim()) is not None:
                    ended_last = True
                    self._run_job(job)
                elif running := self._running():
                    # If one of them dies, its arms are taken over.
                    ended_last = False
                    self._listener.waits(running)
                    self._sleep()
                else:
                    return ended_last

    def _running(self) -> int:
        return sum(len(job.arms) for job in self._queue.states() if job.state in ("running", "waiting"))

    def _run_job(self, job: Job) -> None:
        losses = []
        for arm in job.arms:
            record = read_record(self._queue.plan.folder_of(arm))
            if record is None:  # else its worker ended just after saving it
                outcome, error = self._run_one(job, arm)
                if outcome == "stopped":
                    job.give_back()
                    self._stop_if_asked(arm)
                if outcome == "lost":
                    return
                if outcome == "failed":
                    job.failed(f"alpha {arm.alpha:g}, seed {arm.seed}: {error}" if len(job.arms) > 1 else str(error))
                    self._listener.ended(arm, "failed", error)
                    return
                record = read_record(self._queue.plan.folder_of(arm))
            assert record is not None
            if record["state"] == "pruned":
                job.pruned()
                self._listener.ended(arm, "pruned", None)
                return
            losses.append(record["held_out_loss"])
            if arm is job.arms[-1]:
                job.complete(sum(losses) / len(losses))
            self._listener.ended(arm, "complete", None)

    def _run_one(self, job: Job, arm: Arm) -> tuple[_Outcome, str | None]:
        self._listener.started(arm)
        folder = self._queue.plan.folder_of(arm)
        child = self._child = Child(self._run_arm, ArmTask(arm, folder, self._args, self._measures), folder / "log.txt")
        error = None
        asked: signal.Signals | None = None
        beat_at = -self._seconds_between_beats
        try:
            while (code := child.exit_code) is None:
                message = child.message(_TICK)
                if isinstance(message, Progress):
                    self._listener.progress(arm, *message)
                elif isinstance(message, Validated):
                    child.answer(job.should_stop(arm, message.step, message.loss, message.steps))
                elif isinstance(message, Failed):
                    error = message.error
                if asked is None and self._asked is not None:
                    asked = self._asked
                    child.stop()
                if time.monotonic() - beat_at > self._seconds_between_beats:
                    beat_at = time.monotonic()
                    if not job.still_ours():
                        return "lost", None
        finally:
            child.kill()
            self._child = None
        if read_record(folder) is not None:
            return "complete", None
        if self._asked is not None:
            return "stopped", None
        return "failed", error or describe_exit(code)

    def _stop_if_asked(self, arm: Arm | None) -> None:
        if self._asked is not None:
            raise Stopped(self._asked, arm)

    def _sleep(self) -> None:
        until = time.monotonic() + _SECONDS_BETWEEN_LOOKS
        while time.monotonic() < until and self._asked is None:
            time.sleep(_TICK)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None and self._child is not None:  # the second signal: at once
            self._child.kill()
        self._asked = signal.Signals(number)
