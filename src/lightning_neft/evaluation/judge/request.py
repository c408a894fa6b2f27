"""What a judge is asked, what it replies, and what a judge is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Judge", "JudgeRequest", "Reply"]


@dataclass(frozen=True)
class JudgeRequest:
    """One question to a judge: which of two answers is better, in this order.

    Attributes:
        instruction: What was asked for, with the input below it where there is one.
        answer_a: The answer that is shown first.
        answer_b: The answer that is shown second.
    """

    instruction: str
    answer_a: str
    answer_b: str

    def key(self, judge: str, prompt_version: str) -> str:
        """Return the digest by which the verdict is kept."""
        parts = [judge, prompt_version, self.instruction, self.answer_a, self.answer_b]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What a judge wrote, and the tokens that it counted; None where it does not say."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class Judge(Protocol):
    """Somebody who can be asked.

    Attributes:
        name: Model and kind; part of the key of each verdict.
        is_paid: Whether tokens may cost money.
        workers: The most requests at a time.
        tries: How often the judge is asked again after a reply that is no verdict, the first time included.
    """

    name: str
    is_paid: bool
    workers: int
    tries: int

    def ask(self, prompt: str, key: str, attempt: int) -> Reply:
        """Return the reply to a prompt.

        Args:
            prompt: The text of the request.
            key: The key of the request, from which waiting times are drawn.
            attempt: 0 for the first time that this is asked.

        Raises:
            ModelError: If there is none to be had.
        """
        ...

    def stop(self) -> None:
        """Let requests that wait for another attempt give up; there is no way back."""
        ...
