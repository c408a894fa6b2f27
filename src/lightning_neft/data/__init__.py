"""Data for instruction tuning: sources, formats, templates, tokens, batches, the data module, and the toy data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_neft.data.conversation import Conversation, Labelled, Message
    from lightning_neft.data.formats.format import Column, Format
    from lightning_neft.data.module import TextData

__all__ = ["Column", "Conversation", "Format", "Labelled", "Message", "TextData"]

# Imported at first use: a format of your own needs neither torch nor lightning.
_HOME = {
    "Column": "lightning_neft.data.formats.format",
    "Conversation": "lightning_neft.data.conversation",
    "Format": "lightning_neft.data.formats.format",
    "Labelled": "lightning_neft.data.conversation",
    "Message": "lightning_neft.data.conversation",
    "TextData": "lightning_neft.data.module",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
