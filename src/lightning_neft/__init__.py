"""NEFTune for PyTorch Lightning: noisy-embedding fine-tuning, exact, on or loud, resumable to the bit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lightning_neft._version import __version__

if TYPE_CHECKING:
    from lightning_neft.callback import NEFTune
    from lightning_neft.errors import NEFTError, NoNoiseError
    from lightning_neft.mixin import NEFTuneMixin
    from lightning_neft.noise.injector import EmbeddingNoise

__all__ = ["EmbeddingNoise", "NEFTError", "NEFTune", "NEFTuneMixin", "NoNoiseError", "__version__"]

# Imported at first use: `lightning_neft --help` then needs neither torch nor lightning.
_HOME = {
    "EmbeddingNoise": "lightning_neft.noise.injector",
    "NEFTError": "lightning_neft.errors",
    "NEFTune": "lightning_neft.callback",
    "NEFTuneMixin": "lightning_neft.mixin",
    "NoNoiseError": "lightning_neft.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
