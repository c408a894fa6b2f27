"""Arms against the baseline of the same seed: paired differences with intervals over seeds and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_neft.evaluation.bootstrap import paired_interval, verdict

__all__ = ["compare"]

# Name of the metric, and how it comes from an arm: (n_samples,), or None where it was not measured.
_METRICS: dict[str, Any] = {
    "held_out_loss": lambda arm: arm["held_out_per_sample"],
    "train_clean_loss": lambda arm: arm.get("train_per_sample"),
    "mean_characters": lambda arm: [len(answer["output"]) for answer in arm["answers"]],
    "mean_rouge_l": lambda arm: ((arm["memorization"] or {}).get("per_sample") or {}).get("rouge_l"),
}
# Whether longer answers, fewer copies, or a training loss that may be low by heart are good is for the reader to say.
_LOWER_IS_BETTER = ("held_out_loss",)


def compare(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparisons of a result of the kind `study`.

    An alpha of which an arm was given up is left out: the seeds that are left are those on which it did well.

    Args:
        arms: The arms of that result.
    """
    complete = {(arm["alpha"], arm["seed"]): arm for arm in arms if arm["state"] == "complete"}
    given_up = {arm["alpha"] for arm in arms if arm["state"] == "pruned"}
    comparisons = []
    for alpha in sorted({alpha for alpha, _ in complete} - given_up - {0}):
        seeds = sorted(seed for other, seed in complete if other == alpha and (0, seed) in complete)
        pairs = [(complete[alpha, seed], complete[0, seed]) for seed in seeds]
        for metric, values_of in _METRICS.items():
            rows = [(values_of(arm), values_of(baseline)) for arm, baseline in pairs]
            rows = [(one, other) for one, other in rows if one and other]
            if sum(len(one) for one, _ in rows) > 1:  # of a single difference there is no interval
                comparisons.append(_comparison(alpha, metric, rows))
    return comparisons


def _comparison(alpha: float, metric: str, rows: list[tuple[list[float], list[float]]]) -> dict[str, Any]:
    differences = np.array([np.subtract(one, other) for one, other in rows])
    interval = paired_interval(differences)
    said = verdict(interval, lower_is_better=True)
    return {
        "alpha": alpha,
        "baseline": 0,
        "metric": metric,
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "level": interval.level,
        "n_seeds": len(differences),
        "n_samples": differences.shape[1],
        "verdict": said if metric in _LOWER_IS_BETTER else said.removeprefix("better: ").removeprefix("worse: "),
    }
