"""Paired differences of a study: each alpha minus alpha 0, with the same seed and on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lightning_neft.errors import DataError
from lightning_neft.evaluation.study_result import ArmResult

__all__ = ["HELD_OUT_LOSS", "LOWER_IS_BETTER", "METRICS", "paired_differences"]


def _rouge_l(arm: ArmResult) -> Sequence[float]:
    scores = arm.memorization.child("per_sample") if arm.memorization else None
    return scores.numbers("rouge_l") if scores else ()


HELD_OUT_LOSS = "held_out_loss"
"""Name of the metric that arms are judged by."""
METRICS: Mapping[str, Callable[[ArmResult], Sequence[float]]] = {
    HELD_OUT_LOSS: lambda arm: arm.held_out_per_sample,
    "train_clean_loss": lambda arm: arm.train_per_sample,
    "mean_characters": lambda arm: [len(answer.output) for answer in arm.answers],
    "mean_rouge_l": _rouge_l,
}
"""Names of the metrics, and their value for each sample of an arm, none where it was not measured."""
# Whether longer answers, fewer copies, or a low (perhaps memorised) training loss are good is left to the reader.
LOWER_IS_BETTER = (HELD_OUT_LOSS,)
"""Names of the metrics of which less is better; of the others neither direction is."""


def paired_differences(arms: Sequence[ArmResult], metric: str) -> dict[float, npt.NDArray[np.float64]]:
    """Return the differences between each alpha and the baseline.

    Args:
        arms: All arms of a study.
        metric: What is compared.

    Returns:
        By alpha float64 (n_seeds, n_samples), of the seeds with which both are complete. An alpha with a pruned arm, or
        with a single difference, which has no interval, is omitted.

    Raises:
        DataError: Two arms were measured on different numbers of samples.
    """
    values_of = METRICS[metric]
    complete = {(arm.alpha, arm.seed): values for arm in arms if arm.state == "complete" and (values := values_of(arm))}
    sizes = {len(values) for values in complete.values()}
    if len(sizes) > 1:
        raise DataError(
            f"{metric} was measured on {min(sizes)} samples of one arm and on {max(sizes)} of another; arms are "
            "compared on the same samples"
        )
    pruned = {arm.alpha for arm in arms if arm.state == "pruned"}
    found = {}
    for alpha in sorted({alpha for alpha, _ in complete} - pruned - {0}):
        seeds = sorted(seed for other, seed in complete if other == alpha and (0, seed) in complete)
        rows = [np.subtract(complete[alpha, seed], complete[0, seed]) for seed in seeds]
        if sum(map(len, rows)) > 1:
            found[alpha] = np.array(rows, dtype=np.float64)
    return found
