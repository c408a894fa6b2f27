"""Whether what somebody typed is text."""

from __future__ import annotations

__all__ = ["is_utf8"]


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
