"""Text data for fine-tuning: sources, formats, templates, tokens, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.data.conversation import Conversation, Labelled, Message, ToolCall
    from lightning_neft.data.formats.format import Column, Format
    from lightning_neft.data.module import TextData
    from lightning_neft.data.options import Source

__all__ = ["Column", "Conversation", "Format", "Labelled", "Message", "Source", "TextData", "ToolCall"]

# A custom format needs neither torch nor lightning.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Column": "formats.format",
        "Conversation": "conversation",
        "Format": "formats.format",
        "Labelled": "conversation",
        "Message": "conversation",
        "Source": "options",
        "TextData": "module",
        "ToolCall": "conversation",
    },
)
