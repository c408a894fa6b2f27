"""Tool calls in answers and in conversations, for scripts/evidence.py."""

from __future__ import annotations

import json
import re
from typing import Any


def called_tool(answer: str) -> str | None:
    """Return the name in the first call of an answer; None without a call that is valid JSON with arguments."""
    call = re.search(r"<tool_call>(.*?)</tool_call>", answer, re.DOTALL)
    try:
        found = json.loads(call[1]) if call else None
    except ValueError:
        return None
    is_whole = isinstance(found, dict) and isinstance(found.get("arguments"), dict)
    return str(found.get("name")) if is_whole else None


def until_first_call(record: dict[str, Any], most_words: int) -> dict[str, Any] | None:
    """Return the beginning of a conversation; None if it is too long or has no call."""
    turns = record["conversations"]
    calls = [number for number, turn in enumerate(turns) if turn["from"] == "function_call"]
    if not calls:
        return None
    beginning = record | {"conversations": turns[: calls[0] + 1]}
    return beginning if len(json.dumps(beginning).split()) <= most_words else None


def begins(record: dict[str, Any], turns: list[Any]) -> bool:
    """Return whether a conversation begins with these turns."""
    return bool(record["conversations"][: len(turns)] == turns)
