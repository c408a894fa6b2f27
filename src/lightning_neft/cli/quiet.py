"""Silences messages of libraries that do not help a user; each with the reason."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

# (message, module that warns), both as regular expressions from the start.
_WARNINGS = (
    # The parser's library wants another method name from Lightning, which calls it.
    (r"[\s\S]*(JsonargparseDeprecationWarning|instantiate_classes)", r""),
    # Calls of torchdata and of Lightning to PyTorch, which keeps both working.
    (r"'set_vital' is deprecated", r"torchdata\."),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", r"lightning\."),
    # peft asks transformers by an old name, which still works.
    (r"`is_gradient_checkpointing` is deprecated", r""),
    # The samples are in memory as tokens: a worker that hands them over would be slower than none.
    (r"The '\w+_dataloader' does not have many workers", r"lightning\."),
    # Until the first validation there is no held-out loss to rank checkpoints by; `last` is saved all the same.
    (r"`ModelCheckpoint\(monitor='val/loss'\)` could not find the monitored key", r"lightning\."),
)
_MESSAGES = (
    # An advertisement.
    "💡 Tip:",
    # An inner step of the schedule's computation.
    "Loading `train_dataloader` to estimate",
    # The program says this itself, in one line.
    "\nDetected KeyboardInterrupt",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the messages above inside the block, and transformers' progress bars outside a terminal."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(f"lightning.{name}.utilities.rank_zero") for name in ("pytorch", "fabric")]
    has_bar = transformers_logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        for message, module in _WARNINGS:
            warnings.filterwarnings("ignore", message=message, module=module)
        for logger in loggers:
            logger.addFilter(_is_of_use)
        if not sys.stderr.isatty():
            transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(_is_of_use)
            if has_bar:
                transformers_logging.enable_progress_bar()


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_MESSAGES)
