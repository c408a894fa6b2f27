"""Texts of strangers as they are shown: characters that nobody sees, or that turn others round, by their number."""

from __future__ import annotations

import re

__all__ = ["visible"]

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
