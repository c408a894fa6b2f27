"""Where this package keeps what it can make again, and the hub's cache where the hub does not answer."""

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
    """Return the folder: the one that is given, else `lightning_neft` in the cache of `datasets`. It may not be there.

    Example:
        >>> cache_folder("mine")
        PosixPath('mine')
    """
    if cache_dir:
        return user_path(cache_dir, "data.cache_dir")
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "lightning_neft"


# Seconds to wait for the hub's first answer.
_PATIENCE = 10


@contextmanager
def cache_without_hub(base: str) -> Iterator[None]:
    """Load from the cache alone, as with HF_HUB_OFFLINE, where a base is of the hub and the hub does not answer.

    Args:
        base: Folder or hub id. A folder needs no hub, and none is asked.
    """
    if constants.HF_HUB_OFFLINE or user_path(base, "model base").is_dir() or _answers(base, constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


@functools.cache
def _answers(base: str, endpoint: str) -> bool:
    """Return whether the hub has an answer; asked once, although a base is read in several steps."""
    try:
        HfApi(endpoint).model_info(base, timeout=_PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        # It is there and says no; what that means comes out when the files are asked for.
        return True
    # Their classes depend on the version of huggingface_hub: of requests, httpx, or its own.
    except Exception:
        return False
    return True
