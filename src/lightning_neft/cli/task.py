"""The task of a command line, and what follows from it: the class of the model and the metrics that a run logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import lightning as L
import yaml

from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
from lightning_neft.common.config_text import compose_config
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import ConfigError
from lightning_neft.models.finetuner import FineTuner
from lightning_neft.models.language_models import CausalLM, Seq2SeqLM
from lightning_neft.models.sequence_classifier import SequenceClassifier

__all__ = ["MODELS", "check_monitors", "logged_metrics", "task_of"]

MODELS: dict[Task, type[FineTuner]] = {
    "causal_lm": CausalLM,
    "seq2seq_lm": Seq2SeqLM,
    "sequence_classification": SequenceClassifier,
}
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


def task_of(args: Sequence[str]) -> Task:
    """Return the task of a command line and its config files; the last one that is given counts.

    The parser needs the class of the model before it can parse.

    Args:
        args: The command line after the verb, with each config as `--config=FILE`.

    Raises:
        ConfigError: If there is no such task.
    """
    task = "causal_lm"
    for number, argument in enumerate(args):
        option, equals, value = argument.partition("=")
        if option == "--config":
            task = _of_file(Path(value)) or task
        elif option == "--task":
            task = value if equals else next(iter(args[number + 1 : number + 2]), "")
    known: tuple[Task, ...] = get_args(Task)
    if task not in known:
        listed = f"choose one of {', '.join(known)}"
        raise ConfigError(f"there is no task {task!r}; {did_you_mean(task, known, listed)}")
    return next(name for name in known if name == task)


def _of_file(file: Path) -> str | None:
    try:
        root = compose_config(file)
    except ConfigError:
        return None  # the check of the keys says it
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    value = next((value for key, value in entries if key.value == "task"), None)
    return value.value if isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null") else None


def logged_metrics(task: Task, with_noise: bool, sources: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names that a run logs and a callback can watch.

    Args:
        task: What the model learns.
        with_noise: Whether the run has the noise.
        sources: Names of the sources of a mixture.
    """
    by_source = (f"val/loss/{name}" for name in sources)
    return (*_HELD_OUT[task], *by_source, *_TRAINING, *(_NOISE if with_noise else ()))


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
        hint = did_you_mean(str(monitor), logged, f"choose one of {', '.join(logged)}")
        name = "checkpoint" if isinstance(callback, StepCheckpoint) else type(callback).__name__
        raise ConfigError(f"{name}: the run logs no metric monitor={monitor!r}; {hint}")
