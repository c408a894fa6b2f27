"""The pinned prompt of the judge, and the strict reading of its verdict."""

from __future__ import annotations

import json
from importlib.resources import files
from string import Template
from typing import Literal

from lightning_neft.evaluation.judge.request import JudgeRequest

__all__ = ["PROMPT_VERSION", "Verdict", "prompt_text", "read_verdict"]

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
