"""The noise itself, for any PyTorch model: strength, lengths, documents, where it is added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.noise.antithetic import double_rows
    from lightning_neft.noise.embedding import EmbeddingTarget
    from lightning_neft.noise.functional import expected_rms, scale_from_lengths
    from lightning_neft.noise.injector import EmbeddingNoise
    from lightning_neft.noise.probe import NoiseStrength

__all__ = [
    "EmbeddingNoise",
    "EmbeddingTarget",
    "NoiseStrength",
    "double_rows",
    "expected_rms",
    "scale_from_lengths",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EmbeddingNoise": "injector",
        "EmbeddingTarget": "embedding",
        "NoiseStrength": "probe",
        "double_rows": "antithetic",
        "expected_rms": "functional",
        "scale_from_lengths": "functional",
    },
)
