"""Words of strangers on a terminal: what would steer it is shown instead."""

from __future__ import annotations

__all__ = ["escaped"]


def escaped(text: str, keep: str = "") -> str:
    r"""Return a text in which characters that are not printable stand as in a Python text.

    Args:
        text: From data, a file's name, a model.
        keep: Characters that stay as they are.

    Example:
        >>> print(escaped("a\x1b[2J\nb\u202ec"))
        a\x1b[2J\nb\u202ec
    """
    return "".join(
        character if character.isprintable() or character in keep else repr(character)[1:-1] for character in text
    )
