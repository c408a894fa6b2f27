"""The process of the program: launcher variables, SIGTERM, messages of libraries, freed memory."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning_neft.errors import ConfigError

__all__ = ["Terminated", "check_environment", "keep_freed_memory", "quiet", "sigterm_raises"]

# Variables that Lightning reads as whole numbers, some while it is imported; its errors do not name them.
_NUMBERS = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "JSM_NAMESPACE_RANK",
    "JSM_NAMESPACE_LOCAL_RANK",
    "JSM_NAMESPACE_SIZE",
)


def check_environment() -> None:
    """Check the variables that number the processes of a run.

    Raises:
        ConfigError: If one is not a whole number; one message lists all.
    """
    wrong = [name for name in _NUMBERS if (value := os.environ.get(name)) is not None and not value.isdecimal()]
    if wrong:
        listed = ", ".join(f"{name}={os.environ[name]!r}" for name in wrong)
        raise ConfigError(f"the environment has {listed}, where a whole number is expected; unset it, or set a number")


class Terminated(BaseException):
    """The process received SIGTERM."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` at the first SIGTERM inside the block, as Ctrl-C raises; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated


# Messages of libraries that do not help a user, each with the reason: message and module that warns, both as regular
# expressions from the start.
_WARNINGS = (
    # jsonargparse has deprecated a method that Lightning calls.
    (r"[\s\S]*(JsonargparseDeprecationWarning|instantiate_classes)", r""),
    # The compiler of a block looks at the gradient of its input, which has none.
    (r"The \.grad attribute of a Tensor that is not a leaf", r"torch\._dynamo\."),
    # Deprecated calls of torchdata and Lightning to PyTorch, which still work.
    (r"'set_vital' is deprecated", r"torchdata\."),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", r"lightning\."),
    # A deprecated call of peft to transformers, which still works.
    (r"`is_gradient_checkpointing` is deprecated", r""),
    # The tokens are in memory: workers would only slow the loader down.
    (r"The '\w+_dataloader' does not have many workers", r"lightning\."),
    # The program prints that there is no validation.
    (r"Total length of `list` across ranks is zero", r"lightning\."),
    # What is logged at the end of a validation has been computed over all ranks.
    (r"It is recommended to use `self\.log\('(val|test)/[^']*', \.\.\., sync_dist=True\)`", r"lightning\."),
    # Before the first validation there is no loss to rank checkpoints by; `last` is saved anyway.
    (r"`ModelCheckpoint\(monitor='val/loss'\)` could not find the monitored key", r"lightning\."),
)
_MESSAGES = (
    # An advertisement.
    "💡 Tip:",
    # An inner step of the schedule's computation.
    "Loading `train_dataloader` to estimate",
    # The program reports these itself.
    "\nDetected KeyboardInterrupt",
    "GPU available: ",
    "TPU available: ",
    "Seed set to ",
    "Using 16bit Automatic Mixed Precision",
    "Using bfloat16 Automatic Mixed Precision",
    # Followed by what was restored or loaded, from the same path.
    "Restoring states from ",
)
# Of `lightning`, and of the packages of its parts: the last one that is imported logs for all.
_PACKAGES = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the messages above inside the block, and transformers' progress bars outside a terminal."""
    from transformers.utils import logging as transformers_logging

    loggers = [
        logging.getLogger(f"{package}.utilities.{module}") for package in _PACKAGES for module in ("rank_zero", "seed")
    ]
    has_bar = transformers_logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        for message, module in _WARNINGS:
            warnings.filterwarnings("ignore", message=message, module=module)
        for logger in loggers:
            logger.addFilter(_is_useful)
        if not sys.stderr.isatty():
            transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(_is_useful)
            if has_bar:
                transformers_logging.enable_progress_bar()


def _is_useful(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_MESSAGES)


# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep up to 2 GiB of freed memory, so that the next step's tensors find it there.

    Otherwise each large tensor is a new mapping, and the system clears every page of it at the first write. Settings of
    malloc in the environment take precedence.

    Returns:
        Whether it was set: only on Linux with glibc.
    """
    import ctypes

    if sys.platform != "linux" or any(name in os.environ for name in _SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Older versions accept at most 32 MiB.
    is_set = mallopt(_MMAP_THRESHOLD, 2**30) or mallopt(_MMAP_THRESHOLD, 2**25)
    return bool(is_set and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
