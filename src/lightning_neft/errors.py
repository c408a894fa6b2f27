"""Every error that a user of this package can meet: one class each, all of them `NEFTError`.

A message says what was found, where, and what to do. The program prints it as one line and exits with 2.
"""

from __future__ import annotations

__all__ = [
    "AmbiguousEmbeddingError",
    "ConfigError",
    "DataError",
    "DuplicateNoiseError",
    "EmbeddingNotFoundError",
    "LengthsError",
    "ModelError",
    "NEFTError",
    "NoNoiseError",
]


class NEFTError(Exception):
    """Base of all errors of this package."""


class ConfigError(NEFTError, ValueError):
    """An option has a value that it cannot have."""


class EmbeddingNotFoundError(NEFTError):
    """The model has no token embedding, or none under the name that was given."""


class AmbiguousEmbeddingError(NEFTError):
    """The model has several token embeddings and nothing says which of them is meant."""


class LengthsError(NEFTError):
    """The lengths found in the batch do not fit the embedding's output."""


class NoNoiseError(NEFTError, RuntimeError):
    """A training batch ended without noise although noise was asked for."""


class DuplicateNoiseError(NEFTError):
    """Two NEFTune callbacks, or a callback and a mixin, would add their noise on top of each other."""


class DataError(NEFTError):
    """A data source cannot be read, or holds something that cannot be trained on."""


class ModelError(NEFTError):
    """A base model or checkpoint cannot be loaded or used."""
