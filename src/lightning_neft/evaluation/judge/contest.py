"""A contest of two models before a judge: the pairs, their verdicts, and the result of the kind win_rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_neft.errors import DataError, ModelError
from lightning_neft.evaluation.annotations import win_rate_metrics
from lightning_neft.evaluation.judge.ledger import Record, Usage
from lightning_neft.evaluation.judge.request import PROMPT_VERSION, JudgeRequest, Verdict
from lightning_neft.evaluation.records import Annotation, Output, name_of_one, read_outputs, shown
from lightning_neft.evaluation.result import InputFile, make_result, provenance

__all__ = ["Contest", "Judged", "Outcome", "Pair", "combine", "read_contest", "requests_of"]


@dataclass(frozen=True)
class Pair:
    """Two answers to one instruction.

    Attributes:
        instruction: The instruction, followed by its input if it has one.
        answer: The model's answer.
        baseline: The baseline's answer.
    """

    instruction: str
    answer: str
    baseline: str

    @property
    def is_same(self) -> bool:
        """Whether the answers are identical: a draw, as in AlpacaEval."""
        return self.answer == self.baseline

    @property
    def model_first(self) -> JudgeRequest:
        """The request that shows the model's answer first."""
        return JudgeRequest(self.instruction, self.answer, self.baseline)

    @property
    def baseline_first(self) -> JudgeRequest:
        """The request that shows the baseline's answer first."""
        return JudgeRequest(self.instruction, self.baseline, self.answer)


@dataclass(frozen=True)
class Judged:
    """The outcome over all pairs.

    Attributes:
        preferences: Per pair 1 for the model, 0 for the baseline, 0.5 if the two orders disagree or the answers are the
            same, None if an order has no verdict: such a pair is omitted.
        n_malformed: Requests without a verdict.
        n_inconsistent: Pairs whose verdict changed with the order.
        n_same: Pairs of identical answers, which the judge was not asked about.
        first_position_share: How often the answer shown first won: 0.5 for a judge without a position bias; None
            without a verdict.
    """

    preferences: tuple[float | None, ...]
    n_malformed: int
    n_inconsistent: int
    n_same: int
    first_position_share: float | None


def requests_of(pairs: Sequence[Pair]) -> list[JudgeRequest]:
    """Return both orders of each pair of different answers."""
    asked = [pair for pair in pairs if not pair.is_same]
    return [request for pair in asked for request in (pair.model_first, pair.baseline_first)]


def combine(pairs: Sequence[Pair], records: Mapping[JudgeRequest, Record]) -> Judged:
    """Make one preference of the two verdicts on each pair."""
    verdicts = {
        index: (records[pair.model_first].verdict, records[pair.baseline_first].verdict)
        for index, pair in enumerate(pairs)
        if not pair.is_same
    }
    judged = {index: _preference(*both) for index, both in verdicts.items()}
    given = [verdict for both in verdicts.values() for verdict in both if verdict is not None]
    return Judged(
        preferences=tuple(judged.get(index, 0.5) for index in range(len(pairs))),
        n_malformed=2 * len(verdicts) - len(given),
        n_inconsistent=sum(preference == 0.5 for preference in judged.values()),
        n_same=len(pairs) - len(verdicts),
        first_position_share=given.count("A") / len(given) if given else None,
    )


def _preference(model_first: Verdict | None, baseline_first: Verdict | None) -> float | None:
    if model_first is None or baseline_first is None:
        return None
    return ((model_first == "A") + (baseline_first == "B")) / 2


@dataclass(frozen=True)
class Contest:
    """A model's outputs and the baseline's, in pairs.

    Attributes:
        label: Name of the model.
        baseline: Name of the baseline.
        outputs: The model's answers, with what was asked.
        baselines: The baseline's answers to the same, in the same order.
        sources: The two files.
    """

    label: str
    baseline: str
    outputs: Sequence[Output]
    baselines: Sequence[Output]
    sources: Sequence[InputFile]

    @property
    def pairs(self) -> list[Pair]:
        """What the judge is shown."""
        return [
            Pair(f"{ours.instruction}\n\n{ours.input}" if ours.input else ours.instruction, ours.output, theirs.output)
            for ours, theirs in zip(self.outputs, self.baselines, strict=True)
        ]


def read_contest(path: Path, baseline_path: Path) -> Contest:
    """Read an outputs file and the baseline's, which may contain further instructions.

    Raises:
        DataError: One of them is not an outputs file, is empty, or the baseline's lacks an instruction.
    """
    outputs, baselines = read_outputs(path), read_outputs(baseline_path)
    if not outputs:
        raise DataError(f"{path} contains no outputs, so there is nothing to judge")
    by_key = {item.key: item for item in baselines}
    missing = [item for item in outputs if item.key not in by_key]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{baseline_path} has no answer to {shown(missing[0].instruction)}{more}, which {path} answers; "
            "both files must contain the same instructions"
        )
    return Contest(
        label=name_of_one([item.generator for item in outputs], path, "outputs", path.stem),
        baseline=name_of_one([item.generator for item in baselines], baseline_path, "outputs", baseline_path.stem),
        outputs=outputs,
        baselines=[by_key[item.key] for item in outputs],
        sources=[
            InputFile.read("outputs", path, len(outputs)),
            InputFile.read("baseline", baseline_path, len(baselines)),
        ],
    )


@dataclass(frozen=True)
class Outcome:
    """The verdicts of one judge on one contest.

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
                dataset=ours.dataset,
            )
            for ours, theirs, preference in rows
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return the records of an annotations file."""
        return [one.to_json() for one in self.annotations]

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
            "usage": asdict(self.total),
            "usage_this_run": asdict(self.paid),
        }
        fixed = {"judge": self.judge, "stage": stage, "prompt": PROMPT_VERSION, "orders": "both", "temperature": 0}
        settings = {**fixed, **settings}
        return make_result("win_rate", self.contest.label, metrics, provenance(self.contest.sources, settings, seed))
