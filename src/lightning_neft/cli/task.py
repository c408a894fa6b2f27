"""Which task a command line asks for: the parser needs to know the class of the model before it can parse."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

import yaml

from lightning_neft.common.config_text import compose_config
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import ConfigError
from lightning_neft.models.finetuner import FineTuner
from lightning_neft.models.language_models import CausalLM, Seq2SeqLM
from lightning_neft.models.sequence_classifier import SequenceClassifier

__all__ = ["MODELS", "task_of"]

MODELS: dict[Task, type[FineTuner]] = {
    "causal_lm": CausalLM,
    "seq2seq_lm": Seq2SeqLM,
    "sequence_classification": SequenceClassifier,
}


def task_of(args: Sequence[str]) -> Task:
    """Return the task of a command line and its config files; the last one that is given counts.

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
        near = get_close_matches(task, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"there is no task {task!r}; {hint}choose one of {', '.join(known)}")
    return next(name for name in known if name == task)


def _of_file(file: Path) -> str | None:
    try:
        root = compose_config(file)
    except ConfigError:
        return None  # the check of the keys says it
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    value = next((value for key, value in entries if key.value == "task"), None)
    return value.value if isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null") else None
