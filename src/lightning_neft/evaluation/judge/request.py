"""One question to a judge: the pinned prompt, the pair, the verdict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Literal, Protocol

__all__ = ["PROMPT_VERSION", "Judge", "JudgeRequest", "Reply", "Verdict", "prompt_text", "read_verdict"]


Verdict = Literal["A", "B"]

# Another wording is another file and another version: verdicts are kept by it.
PROMPT_VERSION = "pairwise_v1"


def prompt_text(request: JudgeRequest) -> str:
    """Word a request.

    The texts stand in a JSON object, so that an answer cannot pretend to be its end. Half of a surrogate pair, which
    is no character, stands there as its escape.
    """
    material = {
        "instruction": request.instruction,
        "answer_A": request.answer_a,
        "answer_B": request.answer_b,
    }
    template = files(__package__).joinpath(f"{PROMPT_VERSION}.txt").read_text(encoding="utf-8")
    # Not a second pass over the material: what looks like a placeholder in an answer stays.
    text = Template(template).substitute(material=json.dumps(material, ensure_ascii=False, indent=1)).rstrip("\n")
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def read_verdict(text: str) -> Verdict | None:
    """Return the verdict of a reply, or None if it is none.

    Only the letter itself counts, in white space, quotation marks or a full stop; nothing is guessed from a sentence.

    >>> read_verdict(" B. "), read_verdict("Answer A is better"), read_verdict("a")
    ('B', None, None)
    """
    letter = text.strip().removesuffix(".").strip("\"'`*")
    return "A" if letter == "A" else "B" if letter == "B" else None


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
