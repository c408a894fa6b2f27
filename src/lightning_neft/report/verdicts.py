"""What an interval tells, as a finding: never more than the interval does."""

from __future__ import annotations

from lightning_neft.evaluation.bootstrap import Interval, verdict
from lightning_neft.report.content import Finding

__all__ = ["finding", "metric_name"]

# Name for people, and whether lower is better; None where it is neither.
_METRICS: dict[str, tuple[str, bool | None]] = {
    "held_out_loss": ("held-out loss", True),
    "train_clean_loss": ("training loss without noise", None),
    "mean_rouge_l": ("ROUGE-L of answers to training prompts", None),
    "near_copy_share": ("share of near-copies", None),
    "mean_characters": ("characters per answer", None),
    "mean_words": ("words per answer", None),
    "repetition_2": ("share of repeated 2-grams", None),
    "win_rate": ("win rate", False),
}


def metric_name(metric: str) -> str:
    """Return a metric's name for people.

    Example:
        >>> metric_name("held_out_loss"), metric_name("some_other")
        ('held-out loss', 'some other')
    """
    return _METRICS.get(metric, (metric.replace("_", " "), None))[0]


def finding(subject: str, metric: str, interval: Interval) -> Finding:
    """Return what an interval of a difference tells of a metric.

    Where neither direction is the good one, it says higher or lower, and not better or worse.

    Example:
        >>> found = finding("alpha 5", "mean_words", Interval(2.0, 1.0, 3.0, 0.95))
        >>> found.tells, found.sentence
        ('different', 'higher by 2 (95 % interval 1 to 3)')
    """
    lower_is_better = _METRICS.get(metric, ("", None))[1]
    sentence = verdict(interval, lower_is_better=bool(lower_is_better))
    if interval.has_few_seeds:
        return Finding(subject, "no verdict", sentence)
    if not interval.is_evidence:
        return Finding(subject, "no evidence", sentence)
    direction, _, rest = sentence.partition(": ")
    if lower_is_better is None:
        return Finding(subject, "different", rest)
    return Finding(subject, "better" if direction == "better" else "worse", rest)
