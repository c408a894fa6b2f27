"""Two outputs files against each other: the pairs of answers to the same instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_neft.errors import DataError
from lightning_neft.evaluation.judge.preferences import Pair
from lightning_neft.evaluation.records import Output, name_of_one, read_outputs, shown
from lightning_neft.evaluation.result import InputFile

__all__ = ["Contest", "read_contest"]


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
    """Read an outputs file and the baseline's, which may be about further instructions.

    Raises:
        DataError: One of them is no outputs file, is empty, or the baseline's lacks an instruction.
    """
    outputs, baselines = read_outputs(path), read_outputs(baseline_path)
    if not outputs:
        raise DataError(f"{path} holds no outputs, so there is nothing to judge")
    by_key = {item.key: item for item in baselines}
    missing = [item for item in outputs if item.key not in by_key]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{baseline_path} has no answer to {shown(missing[0].instruction)}{more}, which {path} answers; "
            "both have to be about the same instructions"
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
