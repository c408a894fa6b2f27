"""One instruction sample, whatever file or format it came from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Sample"]


@dataclass(frozen=True)
class Sample:
    """An instruction and the answer that the model is to learn.

    Args:
        instruction: What is asked for.
        input: What the instruction is about; empty where the instruction stands alone.
        output: The answer.
    """

    instruction: str
    input: str
    output: str
