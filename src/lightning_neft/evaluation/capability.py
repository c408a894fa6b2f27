"""Benchmarks of lm-evaluation-harness on a model in memory, to see what fine-tuning cost in other abilities."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft.common.near_names import did_you_mean
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.models.execution import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["OPEN_LLM", "capability", "check_harness", "check_task_files"]

# Name of the preset: ARC, HellaSwag, MMLU and TruthfulQA.
OPEN_LLM = "open-llm"

_PRESETS = {OPEN_LLM: Path(__file__).with_name("open_llm.yaml")}
_NO_FILTER = "none"


def capability(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    batch_size: int = 8,
    limit: int | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Return the metrics of a result of the kind capability.

    The harness seeds the global generators with the seed.

    Args:
        model: A causal or sequence-to-sequence model of transformers; its modules keep their modes.
        tokenizer: Its tokenizer.
        tasks: Names of the harness's tasks, groups and tags, `open-llm`, or YAML files of tasks.
        batch_size: Requests in one forward pass.
        limit: Maximum documents of each task; all by default.
        seed: Of the few-shot examples and all other random choices of the harness.
        trust_remote_code: Whether code that YAML files of tasks name may run.

    Raises:
        ConfigError: If the extra is not installed, there is no such task, or a file is not trusted.
        DataError: If the data of a task cannot be read.
    """
    check_harness()
    check_task_files(tasks, trust_remote_code)
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with _warnings_off(), evaluating(model):
        files = [str(_PRESETS.get(name, name)) for name in tasks]
        # Indexing the harness's own tasks takes seconds, and the user's files may not need it.
        manager = TaskManager(include_defaults=not all(_is_own_file(name) for name in tasks))
        _check_names(tasks, manager.all_tasks)
        with _loading(tasks):
            found = lm_eval.simple_evaluate(
                HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
                tasks=files,
                task_manager=manager,
                limit=limit,
                log_samples=False,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
    return {
        "tasks": {name: _numbers(values) for name, values in found["results"].items()},
        "n_samples": {name: counts["effective"] for name, counts in found["n-samples"].items()},
        "n_shot": dict(found["n-shot"]),
        "task_versions": {name: str(version) for name, version in found["versions"].items()},
        "harness_version": found["lm_eval_version"],
    }


def check_harness() -> None:
    """Check that lm-evaluation-harness is installed.

    Raises:
        ConfigError: If it is not.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError("evaluate --tasks needs the extra harness: pip install 'lightning-neft[harness]'")


def check_task_files(tasks: Sequence[str], trust_remote_code: bool) -> None:
    """Check that the YAML files among the tasks exist and are trusted.

    Such a file is a program to the harness: `!function`, in it or in what it includes, loads a Python file, `metric`
    may be the path of a script, and the Jinja templates are not sandboxed. So inspecting a file cannot prove it safe.

    Args:
        tasks: Names and files.
        trust_remote_code: Whether the code that they name may run.

    Raises:
        ConfigError: If one is missing, or not trusted.
    """
    for name in filter(_is_own_file, tasks):
        if not Path(name).is_file():
            raise ConfigError(f"--tasks: the file {name!r} does not exist (in {Path.cwd()})")
        if not trust_remote_code:
            raise ConfigError(
                f"--tasks: {name} can run Python code (functions, metrics, templates); read it and what it includes, "
                "then add --trust-remote-code if you trust them"
            )


def _is_own_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _check_names(tasks: Sequence[str], known: Sequence[str]) -> None:
    for name in tasks:
        if not _is_own_file(name) and name not in known and name not in _PRESETS:
            hint = did_you_mean(name, [*known, *_PRESETS], f"give a task of lm-eval, {OPEN_LLM}, or a YAML file")
            raise ConfigError(f"--tasks: unknown task {name!r}; {hint}")


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics by name; the harness writes `acc,none` for `acc` without a filter, and N/A for no number."""
    found: dict[str, float | None] = {}
    for name, value in values.items():
        metric, comma, chosen = name.partition(",")
        if comma:
            is_number = isinstance(value, (int, float)) and math.isfinite(value)
            found[metric if chosen == _NO_FILTER else name] = float(value) if is_number else None
    return found


@contextmanager
def _loading(tasks: Sequence[str]) -> Iterator[None]:
    """Turn errors of a task or its data into one line."""
    try:
        yield
    # OSError: no file, no network. The others: what the harness raises for a wrong config or record.
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"the tasks {', '.join(tasks)} cannot be run: {reason}") from error


@contextmanager
def _warnings_off() -> Iterator[None]:
    """Suppress the harness's warnings about a model in memory and about defaults that a task did not set."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
