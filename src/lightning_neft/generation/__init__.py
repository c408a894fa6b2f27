"""Answers of a fine-tuned model to prompts and chats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.generation.answering import Answerer
    from lightning_neft.generation.sources import LoadedModel, load_model, open_answerer

__all__ = ["Answerer", "LoadedModel", "load_model", "open_answerer"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Answerer": "answering",
        "LoadedModel": "sources",
        "load_model": "sources",
        "open_answerer": "sources",
    },
)
