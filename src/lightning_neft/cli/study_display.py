"""The output of a study: its plan, a progress bar for the running arm, and a line for each finished arm."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lightning_neft.study.plan import Arm, Plan

if TYPE_CHECKING:
    from lightning_neft.evaluation.choice import Choice
    from lightning_neft.evaluation.study_result import ArmResult, StudyResult
    from lightning_neft.study.queue import JobState

__all__ = ["Display"]

_MARKS = {"complete": "done", "failed": "failed", "pruned": "pruned", "running": "running", "waiting": "waiting"}


class Display:
    """Prints to standard output, with a progress bar for the running arm if that is a terminal.

    Args:
        plan: The plan of the study.
        write: Writes the current result, and returns it.
    """

    def __init__(self, plan: Plan, write: Callable[[], StudyResult]) -> None:
        self._plan, self._write = plan, write
        self._console = Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),  # the number of steps comes with the first message of the arm
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None
        self._is_waiting = False

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def plan(self, jobs: Sequence[JobState], description: Mapping[str, Any], storage: str) -> None:
        """Print the plan and the state of each arm."""
        plan = self._plan
        seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
        self._line(
            f"study of {description['recipe']}: {plan.arm_count} arms ({_alphas(plan)}; {seeds}), "
            f"{description['steps']} steps each, compared on {description['held_out']} held-out samples"
        )
        self._line(f"folder: {plan.folder}; storage: {storage}")
        states = {arm: job.state for job in jobs for arm in job.arms}
        all_seeds = sorted({arm.seed for arm in states})
        table = Table("alpha", *(f"seed {seed}" for seed in all_seeds), box=None)
        for alpha in sorted({arm.alpha for arm in states}):
            arms = [Arm(alpha, seed) for seed in all_seeds]
            table.add_row(f"{alpha:g}", *(_MARKS[states[arm]] if arm in states else "" for arm in arms))
        self._console.print(table)

    def started(self, arm: Arm) -> None:
        """Show the bar of an arm."""
        self._is_waiting = False
        self._line(f"{_name(arm)}: started")
        self._task = self._bar.add_task(_name(arm), total=None)

    def progress(self, arm: Arm, step: int, steps: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=step, total=steps)

    def ended(self, arm: Arm, outcome: str, error: str | None) -> None:
        """Update the result, and print the outcome of the arm and the estimated time for the others."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        arms = self._write().arms
        result = next(one for one in arms if (one.alpha, one.seed) == (arm.alpha, arm.seed))
        line = f"{_MARKS[result.state]}: {result.error}"
        if result.seconds is not None and result.held_out_loss is not None and result.state != "failed":
            line = f"{_MARKS[result.state]} in {_duration(result.seconds)}, held-out loss {result.held_out_loss:.4f}"
        self._line(f"{_name(arm)}: {line}{self._left(arms)}")

    def _left(self, arms: Sequence[ArmResult]) -> str:
        seconds = [one.seconds for one in arms if one.state == "complete" and one.seconds is not None]
        count = max(self._plan.arm_count, len(arms))
        left = count - sum(one.state != "waiting" for one in arms)
        if not left or not seconds:
            return ""
        time = _duration(left * sum(seconds) / len(seconds))
        return f"; {left} of {count} arms left, about {time} for one worker"

    def waits(self, arms: int) -> None:
        """Print once that other workers run the remaining arms."""
        if not self._is_waiting:
            self._is_waiting = True
            self._line(f"waiting for {arms} arm{'s' * (arms > 1)} of other workers; abandoned arms will be taken over")

    def summary(self, result: StudyResult, path: Path, page: Path) -> None:
        """Print the comparisons, and the arms that failed or were pruned."""
        table = Table(
            "alpha", "against alpha 0", "seeds", "", title="paired differences", title_justify="left", box=None
        )
        for one in result.comparisons:
            table.add_row(f"{one.alpha:g}", one.metric, str(one.n_seeds), Text(one.verdict))
        if table.row_count:
            self._console.print(table)
        for arm in result.in_state("failed", "pruned"):
            reason = f": {arm.error}" if arm.error else ""
            self._line(f"{_MARKS[arm.state]}: {arm.name}{reason} ({arm.folder}/log.txt)")
        self._line(f"result: {path}")
        self._line(f"report: {page}")

    def recipe(self, path: Path, choice: Choice) -> None:
        """Print the recipe that was written, and why it has its alpha."""
        self._line(f"recipe: {path}: alpha {choice.alpha:g}, {choice.reason}")
        self._line(f"next: lightning_neft fit --config {shlex.quote(str(path))}")

    def _line(self, text: str) -> None:
        # Text, not str: rich would read brackets in a message as markup.
        self._console.print(Text(text), soft_wrap=True)


def _name(arm: Arm) -> str:
    return f"alpha {arm.alpha:g}, seed {arm.seed}"


def _alphas(plan: Plan) -> str:
    listed = ", ".join(f"{alpha:g}" for alpha in plan.alphas)
    if plan.search is None:
        return f"alpha {listed}"
    return f"alpha {listed} and {plan.search.trials} between {plan.search.low:g} and {plan.search.high:g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
