"""Where on disk this package keeps what it can make again."""

from __future__ import annotations

from pathlib import Path

from lightning_neft.common.paths import user_path

__all__ = ["cache_folder"]


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Return the folder: the one that is given, else `lightning_neft` in the cache of `datasets`. It may not be there.

    Example:
        >>> cache_folder("mine")
        PosixPath('mine')
    """
    if cache_dir:
        return user_path(cache_dir, "data.cache_dir")
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "lightning_neft"
