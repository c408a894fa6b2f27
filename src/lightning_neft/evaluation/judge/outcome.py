"""From verdicts to a result of the kind win_rate, and to annotations that AlpacaEval and `--annotations` read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_neft.errors import ModelError
from lightning_neft.evaluation.annotations import win_rate_metrics
from lightning_neft.evaluation.judge.contest import Contest, Judged
from lightning_neft.evaluation.judge.cost import Usage
from lightning_neft.evaluation.judge.request import PROMPT_VERSION
from lightning_neft.evaluation.records import Annotation
from lightning_neft.evaluation.result import make_result, provenance

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one contest before one judge.

    Attributes:
        contest: The pairs.
        judge: Name of the judge.
        judged: Its preferences.
        total: Cost of all verdicts, including those of earlier runs.
        paid: Cost of this run.
    """

    contest: Contest
    judge: str
    judged: Judged
    total: Usage
    paid: Usage

    @property
    def annotations(self) -> list[Annotation]:
        """The pairs with their preference in AlpacaEval's format; None without a preference."""
        contest = self.contest
        rows = zip(contest.outputs, contest.baselines, self.judged.preferences, strict=True)
        return [
            Annotation(
                instruction=ours.instruction,
                baseline=theirs.output,
                output=ours.output,
                preference=None if preference is None else 1 + preference,
                baseline_generator=contest.baseline,
                generator=contest.label,
                annotator=self.judge,
                input=ours.input,
            )
            for ours, theirs, preference in rows
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return the records of an annotations file."""
        datasets = [item.dataset for item in self.contest.outputs]
        return [
            {
                "instruction": one.instruction,
                **({"input": one.input} if one.input else {}),
                "output_1": one.baseline,
                "generator_1": one.baseline_generator,
                "output_2": one.output,
                "generator_2": one.generator,
                "dataset": dataset,
                "annotator": one.annotator,
                "preference": one.preference,
            }
            for one, dataset in zip(self.annotations, datasets, strict=True)
        ]

    def result(self, stage: str, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return the result.

        Args:
            stage: `only`, or `first` and `final` if a second judge follows.
            settings: The options that the verdicts depend on.
            seed: Of the requests.

        Raises:
            ModelError: If no pair has a verdict in both orders.
        """
        counted = [one for one in self.annotations if one.preference is not None]
        judged = self.judged
        if not counted:
            raise ModelError(
                f"judge {self.judge!r} gave no verdict on any of {len(judged.preferences)} pairs: "
                f"{judged.n_malformed} requests without one; it must reply with the letter A or B alone"
            )
        metrics = {
            **win_rate_metrics(counted),
            "n_unjudged": len(judged.preferences) - len(counted),
            "n_malformed": judged.n_malformed,
            "n_inconsistent": judged.n_inconsistent,
            "n_same": judged.n_same,
            "first_position_share": judged.first_position_share,
            "baseline_label": self.contest.baseline,
            "judge": self.judge,
            "stage": stage,
            "usage": self.total.to_json(),
            "usage_this_run": self.paid.to_json(),
        }
        settings = {"prompt": PROMPT_VERSION, "orders": "both", "temperature": 0, **settings}
        return make_result("win_rate", self.contest.label, metrics, provenance(self.contest.sources, settings, seed))
