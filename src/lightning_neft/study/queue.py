"""`ArmQueue`: the arms of a study in the storage, each claimed by exactly one worker.

A job is one trial of Optuna: an arm of the grid, or in a search an alpha with all seeds. Optuna's storages let only one
worker turn a trial from waiting to running, and only one from running to failed. All else follows from one rule: of the
trials of the same job, the one with the lowest number that is not void counts. So workers may put the same job there at
the same time, or take over the same dead worker's, and still run it once.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from lightning_neft.errors import ConfigError
from lightning_neft.study.arm import Measures
from lightning_neft.study.plan import Arm, Plan, Search, make_pruner, make_sampler
from lightning_neft.study.storage import open_storage, study_id

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["ArmQueue", "Job", "JobState"]

State = Literal["complete", "failed", "pruned", "running", "waiting"]
# If workers die repeatedly with an arm, the arm is the likely cause.
_MOST_TAKEOVERS = 3
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class JobState:
    """The state of a job in the storage.

    Attributes:
        arms: Its arms.
        state: Its state.
        error: Why it failed.
    """

    arms: tuple[Arm, ...]
    state: State
    error: str | None


class Job:
    """Arms that this worker has claimed; its methods report the outcome."""

    def __init__(self, queue: ArmQueue, trial: optuna.Trial, arms: tuple[Arm, ...]) -> None:
        self.arms = arms
        self._queue = queue
        self._trial = trial

    def still_ours(self) -> bool:
        """Send a heartbeat; return False if other workers have taken the job over."""
        self._queue.beat(self._trial)
        return self._frozen().state is TrialState.RUNNING

    def should_stop(self, arm: Arm, step: int, loss: float, steps: int) -> bool:
        """Report a held-out loss of one of the arms, and return whether to prune it; the baseline never is."""
        # The arms of a job are one after the other on the pruner's axis.
        at = self.arms.index(arm) * steps + step
        if at not in self._frozen().intermediate_values:  # a resumed arm may reach a step again
            self._trial.report(loss, at)
        return arm.alpha != 0 and self._trial.should_prune()

    def complete(self, loss: float) -> None:
        """Mark the job as complete, with the mean held-out loss of the arms."""
        self._end(TrialState.COMPLETE, loss)

    def pruned(self) -> None:
        """Mark the job as pruned."""
        self._end(TrialState.PRUNED)

    def failed(self, error: str) -> None:
        """Mark the job as failed, with a one-line reason."""
        with suppress(UpdateFinishedTrialError):
            self._trial.set_user_attr("error", error)
        self._end(TrialState.FAIL)

    def give_back(self) -> None:
        """Put the job back for any worker."""
        if self._end(TrialState.FAIL):
            self._queue.put_again(self._frozen(), has_died=False)

    def _frozen(self) -> FrozenTrial:
        return self._queue.frozen(self._trial.number)

    def _end(self, state: TrialState, value: float | None = None) -> bool:
        try:
            self._queue.study.tell(self._trial, value, state)
        except (ValueError, UpdateFinishedTrialError):
            return False  # others have taken it over: their outcome counts
        return True


class ArmQueue:
    """The jobs of a study.

    Args:
        plan: The planned arms; arms of an earlier plan are kept.
        url: URL of the storage; a file in the study's folder by default.
        config: Digest of the config of the arms, without alpha and seed.
        measures: What is measured of each arm.
        pruner: Name of the pruner.
        grace: Seconds without a heartbeat after which the arms of a worker are taken over.

    Raises:
        ConfigError: The storage cannot be opened, or contains a study with another config or other measures.
    """

    def __init__(
        self, plan: Plan, *, url: str | None, config: str, measures: Measures, pruner: str, grace: int
    ) -> None:
        self.plan = plan
        self._grace = grace
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = open_storage(plan.folder, url, grace, lambda _, trial: self.put_again(trial))
        with _without_notices():
            self.study = optuna.create_study(
                storage=self._storage,
                study_name=study_id(plan.folder),
                load_if_exists=True,
                pruner=make_pruner(pruner),
                direction="minimize",
            )
        self._check("config", config, "with another config; give the same --config and --KEY VALUE")
        # Numbers of samples that differ cannot be compared, nor answers of different limits.
        problem = "with other --answers, --max-new-tokens or --memorization; give the same"
        self._check("measures", list(measures), problem)
        search = None if plan.search is None else [plan.search.low, plan.search.high, list(plan.seeds)]
        self._check("search", search, "with other --search or --seeds; give the same")
        self._put_plan()

    def claim(self) -> Job | None:
        """Claim a job for this worker; None if none is waiting."""
        while True:
            self._take_over()
            jobs = list(self._counting())
            # A trial that another worker holds does not count as waiting.
            if not self._has_waiting() and not self._wants_another(jobs):
                return None
            trial = self._ask(len(jobs))
            self.beat(trial)
            trial.set_user_attr("has_worker", True)
            if self._is_mine(trial):
                return Job(self, trial, _arms(self.frozen(trial.number)))
            self.study.tell(trial, state=TrialState.FAIL)

    def states(self) -> list[JobState]:
        """Return all jobs, the baseline first."""
        found = [
            JobState(_arms(trial), _STATES[trial.state], trial.user_attrs.get("error")) for trial in self._counting()
        ]
        return sorted(found, key=lambda job: job.arms)

    def retry(self) -> None:
        """Put failed jobs back."""
        for trial in list(self._counting()):
            if trial.state is TrialState.FAIL:
                self._put(trial, {"retries": trial.number, "takeovers": 0})

    def put_again(self, trial: FrozenTrial, has_died: bool = True) -> None:
        """Put back the job of a trial whose worker died or was asked to stop."""
        takeovers = trial.user_attrs.get("takeovers", 0) + has_died
        if takeovers > _MOST_TAKEOVERS:
            error = f"its worker ended {takeovers} times without an error message; out of memory?"
            self._put(trial, {"takeovers": takeovers, "error": error}, TrialState.FAIL)
        else:
            self._put(trial, {"takeovers": takeovers})

    def beat(self, trial: optuna.Trial) -> None:
        """Record a heartbeat of the worker of a trial."""
        self._storage.record_heartbeat(trial._trial_id)

    def frozen(self, number: int) -> FrozenTrial:
        """Return a trial as the storage has it now."""
        return self.study.get_trials(deepcopy=False)[number]

    def _check(self, name: str, value: Any, problem: str) -> None:
        """Compare an attribute of the study, which the first worker sets."""
        attributes = self.study.user_attrs
        if name not in attributes:
            self.study.set_user_attr(name, value)
        elif attributes[name] != value:
            raise ConfigError(f"the study in {self.plan.folder} was started {problem}, or another --out")

    def _put_plan(self) -> None:
        there = {_key(trial) for trial in self._counting()}
        jobs: Iterable[list[int]] = (
            [list(self.plan.seeds)] if self.plan.search else [[seed] for seed in self.plan.seeds]
        )
        # Seed by seed, so that pairs are complete early.
        for seeds in jobs:
            for alpha in self.plan.alphas:
                if (alpha, tuple(seeds)) not in there:
                    attributes = {"alpha": alpha, "seeds": seeds}
                    self.study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=attributes))

    def _put(self, trial: FrozenTrial, attributes: dict[str, Any], state: TrialState = TrialState.WAITING) -> None:
        kept = {name: value for name, value in trial.user_attrs.items() if name not in ("error", "has_worker")}
        if (alpha := _alpha(trial)) is None:
            return  # its worker ended before choosing an alpha
        self.study.add_trial(
            optuna.create_trial(
                state=state,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={**kept, "alpha": alpha, "seeds": list(self._seeds(trial)), **attributes},
                intermediate_values=trial.intermediate_values,
            )
        )

    def _counting(self) -> Iterator[FrozenTrial]:
        """Yield the trial that counts for each job."""
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get("retries") for trial in trials}
        seen = set()
        for trial in trials:
            is_void = trial.number in retried or (trial.state is TrialState.FAIL and "error" not in trial.user_attrs)
            if not is_void and (key := _key(trial)) is not None and key not in seen:
                seen.add(key)
                yield trial

    def _has_waiting(self) -> bool:
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _wants_another(self, jobs: list[FrozenTrial]) -> bool:
        search = self.plan.search
        return search is not None and len(jobs) < search.trials + len(self.plan.alphas)

    def _ask(self, jobs: int) -> optuna.Trial:
        search = self.plan.search
        with _without_notices():
            trial = self._ask_for_stopped() or self.study.ask()
            if search is not None and "alpha" not in trial.user_attrs:
                alpha = self._next_alpha(search, seed=jobs)
                limits = FloatDistribution(search.low, search.high)
                self._storage.set_trial_param(trial._trial_id, "alpha", alpha, limits)
                trial.set_user_attr("seeds", list(self.plan.seeds))
                trial.set_user_attr("alpha", alpha)
        return trial

    def _next_alpha(self, search: Search, seed: int) -> float:
        """Choose by the alphas of the search that have ended; at random where the choice is one that is there already.

        The baseline is not among them, because a Gaussian process learns only from parameters that all trials have.
        """
        # Created each time, so that a resumed search proposes the same alphas as an uninterrupted one.
        known = optuna.create_study(sampler=make_sampler(search.sampler, seed))
        ended = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        known.add_trials([trial for trial in ended if trial.params])
        alpha: float = known.ask().suggest_float("alpha", search.low, search.high)
        # A Gaussian process that is sure proposes the same again, and the same to two workers.
        is_there = alpha in {_alpha(trial) for trial in self._counting()}
        return random.Random(seed).uniform(search.low, search.high) if is_there else alpha

    def _ask_for_stopped(self) -> optuna.Trial | None:
        """Claim a job that was put back: it has a checkpoint, but Optuna would take it after all that never ran."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            with suppress(UpdateFinishedTrialError):
                is_put_back = "takeovers" in trial.user_attrs
                if is_put_back and self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    return optuna.Trial(self.study, trial._trial_id)
        return None

    def _is_mine(self, trial: optuna.Trial) -> bool:
        counting = list(self._counting())
        place = next((place for place, other in enumerate(counting) if other.number == trial.number), None)
        if place is None:
            return False
        search = self.plan.search
        # Another worker may have asked for the last alpha at the same time.
        return search is None or place < search.trials + len(self.plan.alphas)

    def _seeds(self, trial: FrozenTrial) -> tuple[int, ...]:
        return tuple(trial.user_attrs.get("seeds", self.plan.seeds))

    def _take_over(self) -> None:
        with _without_notices():
            optuna.storages.fail_stale_trials(self.study)
        # Of a worker that ended between its claim and its first heartbeat Optuna would wait for one.
        now = datetime.now()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            silent = trial.datetime_start is not None and (now - trial.datetime_start).total_seconds() > self._grace
            if silent and "has_worker" not in trial.user_attrs:
                try:
                    self.study.tell(trial.number, state=TrialState.FAIL)
                except (ValueError, UpdateFinishedTrialError):
                    continue
                self.put_again(trial)


def _alpha(trial: FrozenTrial) -> float | None:
    alpha: float | None = trial.user_attrs.get("alpha", trial.params.get("alpha"))
    return alpha


def _key(trial: FrozenTrial) -> tuple[float, tuple[int, ...]] | None:
    attributes = trial.user_attrs
    return (attributes["alpha"], tuple(attributes["seeds"])) if "alpha" in attributes else None


def _arms(trial: FrozenTrial) -> tuple[Arm, ...]:
    return tuple(Arm(trial.user_attrs["alpha"], seed) for seed in trial.user_attrs["seeds"])


@contextmanager
def _without_notices() -> Iterator[None]:
    """Suppress Optuna's notices on heartbeats, which are experimental and meant for its own loop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with")
        yield
