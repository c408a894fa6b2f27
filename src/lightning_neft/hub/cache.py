"""The cache folder of this package, and loading from the hub's cache when the hub does not respond."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from lightning_neft.common.paths import user_path

__all__ = ["cache_folder", "cache_without_hub"]


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Return the given folder, else `lightning_neft` in the cache of `datasets`. It need not exist.

    Example:
        >>> cache_folder("mine")
        PosixPath('mine')
    """
    if cache_dir:
        return user_path(cache_dir, "data.cache_dir")
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "lightning_neft"


# Seconds to wait for the hub's first response.
_PATIENCE = 10


@contextmanager
def cache_without_hub(base: str) -> Iterator[None]:
    """Load only from the cache, as with HF_HUB_OFFLINE, if a base is on the hub and the hub does not respond.

    Args:
        base: Folder, GGUF file or hub id. The hub is queried only for the last.
    """
    if constants.HF_HUB_OFFLINE or user_path(base, "model base").exists() or _answers(base, constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


@functools.cache
def _answers(base: str, endpoint: str) -> bool:
    """Return whether the hub responds; queried once, although a base is read in several steps."""
    try:
        HfApi(endpoint).model_info(base, timeout=_PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        # It refuses; requesting the files then gives the reason.
        return True
    # The class depends on the version of huggingface_hub: from requests, httpx, or its own.
    except Exception:
        return False
    return True
