"""Texts of strangers: shown without what steers a terminal, or that nobody sees, and checked for UTF-8."""

from __future__ import annotations

import re

__all__ = ["escaped", "is_utf8", "visible"]


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


# Control characters but tab and line feed; those that turn the direction of what follows; halves of surrogate pairs,
# which cannot be written at all; noncharacters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def visible(text: str) -> str:
    r"""Return a text in which control and direction characters stand by number; line ends are line feeds.

    Example:
        >>> print(visible("a\u202eb\x00"))
        a[U+202E]b[U+0000]
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVISIBLE.sub(lambda found: f"[U+{ord(found.group()):04X}]", text)


def is_utf8(text: str) -> bool:
    r"""Return whether a text that somebody typed was UTF-8: Python keeps other bytes as surrogates.

    Example:
        >>> is_utf8("Größe"), is_utf8("Gr\udcf6\udcdfe")
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
