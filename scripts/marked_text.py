"""The part of a page that a script writes: the text between a mark that names the script and the next end."""

from __future__ import annotations

from collections.abc import Iterable

END = "<!-- end -->"


def mark(script: str) -> str:
    """Return the mark where the text of a script begins.

    Args:
        script: Path of its file, relative to the repository.
    """
    return f"<!-- made by {script} -->"


def replaced(text: str, script: str, lines: Iterable[str]) -> str:
    """Return the page with new lines between the marks; what is outside of them stays.

    Raises:
        ValueError: The page lacks a mark.
    """
    begin = mark(script)
    before, found, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise ValueError(f"the page lacks the marks {begin} and {END}")
    new = "\n".join(lines)
    return f"{before}{begin}\n\n{new}\n\n{END}{after}"
