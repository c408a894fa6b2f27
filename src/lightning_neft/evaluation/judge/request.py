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

# Another prompt is another file and another version: verdicts are saved under it.
PROMPT_VERSION = "pairwise_v1"


def prompt_text(request: JudgeRequest) -> str:
    """Return the prompt of a request.

    The texts are in a JSON object, so that an answer cannot fake its end. Half of a surrogate pair, which is not a
    character, is written as its escape.
    """
    material = {
        "instruction": request.instruction,
        "answer_A": request.answer_a,
        "answer_B": request.answer_b,
    }
    template = files(__package__).joinpath(f"{PROMPT_VERSION}.txt").read_text(encoding="utf-8")
    # The material is not substituted again: an answer may contain something like a placeholder.
    text = Template(template).substitute(material=json.dumps(material, ensure_ascii=False, indent=1)).rstrip("\n")
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def read_verdict(text: str) -> Verdict | None:
    """Return the verdict in a reply, or None if there is none.

    Only the letter counts, optionally with white space, quotation marks or a full stop; sentences are not interpreted.

    >>> read_verdict(" B. "), read_verdict("Answer A is better"), read_verdict("a")
    ('B', None, None)
    """
    letter = text.strip().removesuffix(".").strip("\"'`*")
    return "A" if letter == "A" else "B" if letter == "B" else None


@dataclass(frozen=True)
class JudgeRequest:
    """One question to a judge: which of two answers is better, in this order.

    Attributes:
        instruction: The instruction, followed by its input if it has one.
        answer_a: The answer that is shown first.
        answer_b: The answer that is shown second.
    """

    instruction: str
    answer_a: str
    answer_b: str

    def key(self, judge: str, prompt_version: str) -> str:
        """Return the digest under which the verdict is saved."""
        parts = [judge, prompt_version, self.instruction, self.answer_a, self.answer_b]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What a judge wrote, and its token counts; None if unknown."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class Judge(Protocol):
    """A judge that can be asked.

    Attributes:
        name: Name of the model; part of the key of each verdict.
        is_paid: Whether tokens may cost money.
        workers: Maximum number of parallel requests.
        tries: How often the judge is asked until a reply is a verdict, including the first time.
    """

    name: str
    is_paid: bool
    workers: int
    tries: int

    def ask(self, prompt: str, key: str, attempt: int) -> Reply:
        """Return the reply to a prompt.

        Args:
            prompt: The text of the request.
            key: The key of the request, which waiting times depend on.
            attempt: 0 for the first time that this is asked.

        Raises:
            ModelError: If the judge does not reply.
        """
        ...

    def stop(self) -> None:
        """Make requests that wait for another attempt give up; cannot be undone."""
        ...
