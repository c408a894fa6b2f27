"""NEFTune for PyTorch Lightning: noisy-embedding fine-tuning with correct lengths and bit-exact resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft._version import __version__
from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.callback import NEFTune
    from lightning_neft.errors import NEFTError, NoNoiseError
    from lightning_neft.mixin import NEFTuneMixin
    from lightning_neft.noise.injector import EmbeddingNoise

__all__ = ["EmbeddingNoise", "NEFTError", "NEFTune", "NEFTuneMixin", "NoNoiseError", "__version__"]

# Imported at first use: `lightning_neft --help` then needs neither torch nor lightning.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EmbeddingNoise": "noise.injector",
        "NEFTError": "errors",
        "NEFTune": "callback",
        "NEFTuneMixin": "mixin",
        "NoNoiseError": "errors",
    },
)
