"""Keep memory that a training on a CPU frees, instead of giving it back to the system and asking for it again."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep up to 2 GiB of freed memory, so that the next step's tensors find it there.

    Otherwise each large tensor is a new mapping, whose every page the system fills with zeros when it is first written.
    What the user has set for malloc in the environment stands.

    Returns:
        Whether it does: not on other systems, nor with another C library.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Older versions take no more than 32 MiB.
    is_set = mallopt(_MMAP_THRESHOLD, 2**30) or mallopt(_MMAP_THRESHOLD, 2**25)
    return bool(is_set and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
