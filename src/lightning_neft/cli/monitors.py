"""The metrics that a run logs, and whether its callbacks watch one of them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import lightning as L

from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import ConfigError

__all__ = ["check_monitors", "logged_metrics"]

_TEXT = ("val/loss", "val/perplexity", "val/token_accuracy")
_HELD_OUT: dict[Task, tuple[str, ...]] = {
    "causal_lm": _TEXT,
    "seq2seq_lm": _TEXT,
    "sequence_classification": ("val/loss", "val/accuracy", "val/f1"),
}
_TRAINING = ("train/loss", "train/tokens_per_second")
_NOISE = ("neft/alpha", "neft/noise_rms", "neft/embedding_rms", "neft/unchanged", "neft/noise_to_signal")
# What Lightning itself can rank checkpoints by, and what its LearningRateMonitor logs.
_OF_LIGHTNING, _RATE = ("step", "epoch"), "lr-"


def logged_metrics(task: Task, with_noise: bool) -> tuple[str, ...]:
    """Return the names that a run logs and a callback can watch.

    Args:
        task: What the model learns.
        with_noise: Whether the run has the noise.
    """
    return (*_HELD_OUT[task], *_TRAINING, *(_NOISE if with_noise else ()))


def check_monitors(callbacks: Sequence[L.Callback], logged: Sequence[str]) -> None:
    """Check before the training that each metric which a callback watches is one that the run logs.

    Callbacks of other packages can log anything; with one of them nothing is known before the first validation.

    Args:
        callbacks: All of the Trainer's.
        logged: The names of `logged_metrics`.

    Raises:
        ConfigError: If a metric is not logged.
    """
    if any(not type(callback).__module__.startswith(("lightning.", "lightning_neft.")) for callback in callbacks):
        return
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is None or monitor in (*logged, *_OF_LIGHTNING) or str(monitor).startswith(_RATE):
            continue
        near = get_close_matches(str(monitor), logged, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(logged)}"
        name = "checkpoint" if isinstance(callback, StepCheckpoint) else type(callback).__name__
        raise ConfigError(f"{name}: the run logs no metric monitor={monitor!r}; {hint}")
