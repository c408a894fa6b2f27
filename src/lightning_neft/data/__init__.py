"""Text data for fine-tuning: sources, formats, templates, tokens, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.data.conversation import Conversation, Message
    from lightning_neft.data.module import TextData

__all__ = ["Conversation", "Message", "TextData"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Conversation": "conversation",
        "Message": "conversation",
        "TextData": "module",
    },
)
