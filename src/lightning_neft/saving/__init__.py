"""Checkpoints and model folders: written whole, read safely, exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.saving.checkpoints import AtomicCheckpointIO
    from lightning_neft.saving.folder import export_model, save_model

__all__ = ["AtomicCheckpointIO", "export_model", "save_model"]

__getattr__, __dir__ = lazy_names(
    __name__, {"AtomicCheckpointIO": "checkpoints", "export_model": "folder", "save_model": "folder"}
)
