"""The output of a study: its plan, a progress bar for the running arm, and a line for each finished arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lightning_neft.study.plan import Arm, Plan

if TYPE_CHECKING:
    from lightning_neft.study.queue import JobState

__all__ = ["Display"]

_MARKS = {"complete": "done", "failed": "failed", "pruned": "given up", "running": "running", "waiting": "waiting"}


class Display:
    """Prints to the standard output, with a bar for the running arm where that is a terminal.

    Args:
        plan: What is to be done.
        write: Writes the result as it stands, and returns it.
    """

    def __init__(self, plan: Plan, write: Callable[[], Mapping[str, Any]]) -> None:
        self._plan, self._write = plan, write
        self._console = Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),  # how many steps an arm has is not known before its first message
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
        """Print what is to be done, and what is done already."""
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
        self._line(f"{_name(arm)}: starts")
        self._task = self._bar.add_task(_name(arm), total=None)

    def progress(self, arm: Arm, step: int, steps: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=step, total=steps)

    def ended(self, arm: Arm, outcome: str, error: str | None) -> None:
        """Write the result anew, and print how the arm went and how long the others will take."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        arms = self._write()["arms"]
        record = next(one for one in arms if (one["alpha"], one["seed"]) == (arm.alpha, arm.seed))
        if record["state"] == "failed":
            said = f"failed: {record['error']}"
        else:
            how = _MARKS[record["state"]]
            said = f"{how} in {_duration(record['seconds'])}, held-out loss {record['held_out_loss']:.4f}"
        self._line(f"{_name(arm)}: {said}{self._left(arms)}")

    def _left(self, arms: Sequence[Mapping[str, Any]]) -> str:
        seconds = [one["seconds"] for one in arms if one["state"] == "complete"]
        count = max(self._plan.arm_count, len(arms))
        left = count - sum(one["state"] != "waiting" for one in arms)
        if not left or not seconds:
            return ""
        time = _duration(left * sum(seconds) / len(seconds))
        return f"; {left} of {count} arms left, about {time} for one worker"

    def waits(self, arms: int) -> None:
        """Say once that other workers have the rest."""
        if not self._is_waiting:
            self._is_waiting = True
            self._line(
                f"waiting for {arms} arm{'s' * (arms > 1)} of other workers; any that they abandon are taken over"
            )

    def summary(self, result: Mapping[str, Any], path: Path, page: Path) -> None:
        """Print the comparisons, and name the arms that failed or were given up."""
        table = Table(
            "alpha", "against alpha 0", "seeds", "", title="paired differences", title_justify="left", box=None
        )
        for one in result["comparisons"]:
            table.add_row(f"{one['alpha']:g}", one["metric"], str(one["n_seeds"]), Text(one["verdict"]))
        if table.row_count:
            self._console.print(table)
        for one in result["arms"]:
            if one["state"] in ("failed", "pruned"):
                why = f": {one['error']}" if one["error"] else ""
                self._line(
                    f"{_MARKS[one['state']]}: alpha {one['alpha']:g}, seed {one['seed']}{why} ({one['folder']}/log.txt)"
                )
        self._line(f"result: {path}")
        self._line(f"report: {page}")

    def _line(self, text: str) -> None:
        # Text, not str: brackets in a message are no markup.
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
