"""Untrusted texts: shown without control and invisible characters, and checked for UTF-8."""

from __future__ import annotations

import re

__all__ = ["escaped", "is_utf8", "visible"]


def escaped(text: str, keep: str = "") -> str:
    r"""Return a text with unprintable characters escaped as in a Python literal.

    Args:
        text: A text from data, a file name or a model.
        keep: Characters that are not escaped.

    Example:
        >>> print(escaped("a\x1b[2J\nb\u202ec"))
        a\x1b[2J\nb\u202ec
    """
    return "".join(
        character if character.isprintable() or character in keep else repr(character)[1:-1] for character in text
    )


# Control characters except tab and line feed; bidirectional controls; halves of surrogate pairs, which cannot be
# encoded; noncharacters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def visible(text: str) -> str:
    r"""Return a text with control and direction characters as code points, and line feeds as line ends.

    Example:
        >>> print(visible("a\u202eb\x00"))
        a[U+202E]b[U+0000]
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVISIBLE.sub(lambda found: f"[U+{ord(found.group()):04X}]", text)


def is_utf8(text: str) -> bool:
    r"""Return whether a typed text was UTF-8: Python represents other bytes as surrogates.

    Example:
        >>> is_utf8("Größe"), is_utf8("Gr\udcf6\udcdfe")
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
