"""From annotation files to results: win rates, raw and at equal length, and their paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning_neft.errors import DataError
from lightning_neft.evaluation.records import Annotation, name_of_one, read_annotations, shown
from lightning_neft.evaluation.result import InputFile, make_result, provenance
from lightning_neft.evaluation.win_rate import (
    length_controlled_difference,
    length_controlled_win_rate,
    win_rate,
    win_rate_difference,
)

__all__ = ["AnnotationFile", "difference_result", "read_judged", "win_rate_metrics", "win_rate_result"]


@dataclass(frozen=True)
class AnnotationFile:
    """An annotations file: the verdicts on one model against one baseline.

    Attributes:
        label: Name of the model.
        baseline: Name of the baseline.
        judge: Name of the annotator.
        pairs: Those with a preference.
        n_unjudged: Number of other pairs; AlpacaEval omits them too.
        source: The file.
    """

    label: str
    baseline: str
    judge: str
    pairs: Sequence[Annotation]
    n_unjudged: int
    source: InputFile


def read_judged(path: Path) -> AnnotationFile:
    """Read an annotations file.

    Raises:
        DataError: It is not an annotations file, has several models or baselines, or has no preference at all.
    """
    found = read_annotations(path)
    pairs = [item for item in found if item.preference is not None]
    if not pairs:
        raise DataError(f"{path}: none of its {len(found)} records has a preference; give a file with verdicts")
    judges = sorted({item.annotator for item in pairs if item.annotator})
    return AnnotationFile(
        label=name_of_one([item.generator for item in found], path, "annotations (generator_2)", path.stem),
        baseline=name_of_one([item.baseline_generator for item in found], path, "baselines (generator_1)", "baseline"),
        judge=", ".join(judges) or "unknown",
        pairs=pairs,
        n_unjudged=len(found) - len(pairs),
        source=InputFile.read("annotations", path, len(found)),
    )


def win_rate_metrics(pairs: Sequence[Annotation]) -> dict[str, Any]:
    """Return the metrics of a result of the kind win_rate, without the names.

    Args:
        pairs: Annotations with a preference, one or more.
    """
    wins = _wins(pairs)
    controlled = length_controlled_win_rate(wins, _longer_by(pairs))
    return {
        **asdict(win_rate(wins)),
        "length_controlled_win_rate": controlled.win_rate,
        "length_controlled_standard_error": controlled.standard_error,
        "length_controlled_reason": controlled.reason or None,
        "length_effect": controlled.length_effect,
        "mean_characters": fmean(len(item.output) for item in pairs),
        "baseline_mean_characters": fmean(len(item.baseline) for item in pairs),
        "per_sample": wins,
    }


def win_rate_result(judged: AnnotationFile) -> dict[str, Any]:
    """Return the result of the kind win_rate."""
    metrics = {
        **win_rate_metrics(judged.pairs),
        "n_unjudged": judged.n_unjudged,
        "baseline_label": judged.baseline,
        "judge": judged.judge,
    }
    return make_result("win_rate", judged.label, metrics, provenance([judged.source], {}, seed=None))


def difference_result(first: AnnotationFile, other: AnnotationFile, seed: int = 0) -> dict[str, Any]:
    """Return the result of the kind win_rate_difference: the other model minus the first.

    Args:
        first: The model to compare with.
        other: Another model on the same instructions, against the same baseline.
        seed: Of the bootstrap.

    Raises:
        DataError: The two have different baselines or instructions.
    """
    if first.baseline != other.baseline:
        raise DataError(
            f"{first.source.name} and {other.source.name} compare with different baselines, {first.baseline!r} and "
            f"{other.baseline!r}: the difference of their win rates has no meaning"
        )
    of_first = {item.key: item for item in first.pairs}
    of_other = {item.key: item for item in other.pairs}
    for here, there, lacking in ((of_first, of_other, other), (of_other, of_first, first)):
        missing = [key for key in here if key not in there]
        if missing:
            raise DataError(
                f"{first.source.name} and {other.source.name} do not pair up: {lacking.source.name} has no verdict "
                f"about {shown(missing[0][0])}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}"
            )
    these, those = [of_other[key] for key in of_first], list(of_first.values())
    interval = win_rate_difference(_wins(these), _wins(those), seed=seed)
    controlled = length_controlled_difference(_wins(these), _longer_by(these), _wins(those), _longer_by(those))
    if isinstance(controlled, str):
        reason, mean, low, high = controlled, None, None, None
    else:
        reason, mean, low, high = None, controlled.mean, controlled.low, controlled.high
    metrics = {
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "level": interval.level,
        "length_controlled_difference": mean,
        "length_controlled_low": low,
        "length_controlled_high": high,
        "length_controlled_reason": reason,
        "n_total": len(these),
        "mean_characters": fmean(len(item.output) for item in these),
        "baseline_label": first.label,
        "baseline_mean_characters": fmean(len(item.output) for item in those),
    }
    return make_result(
        "win_rate_difference", other.label, metrics, provenance([first.source, other.source], {}, seed=seed)
    )


def _longer_by(pairs: Sequence[Annotation]) -> list[int]:
    """Return by how many characters the model's answer is longer than the baseline's."""
    return [len(item.output) - len(item.baseline) for item in pairs]


def _wins(pairs: Sequence[Annotation]) -> list[float]:
    """Return 1 for a win of the model, 0 for one of the baseline, 0.5 for a draw."""
    return [item.preference - 1 for item in pairs if item.preference is not None]
