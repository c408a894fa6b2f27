"""`evaluate --tasks`: benchmarks of lm-evaluation-harness on the model in memory."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.model_options import add_model_options, answerer_of
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError

__all__ = ["add_options", "run", "show", "takes_config"]

takes_config = True


def add_options(parser: VerbParser) -> None:
    """Add the options of this kind."""
    parser.add_argument("--tasks", nargs="+", action="extend", required=True, metavar="TASK")
    add_model_options(parser)
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0)


def run(options: Namespace) -> list[dict[str, Any]]:
    """Return the result.

    Raises:
        ConfigError: An option is wrong or missing, there is no such task, a file of one is not trusted, or the extra is
            not installed.
        DataError: The data of a task cannot be read.
        ModelError: The model cannot be loaded, or writes no text.
    """
    from lightning_neft.cli.quiet import quiet
    from lightning_neft.evaluation.capability import capability, check_harness, check_task_files
    from lightning_neft.evaluation.result import InputFile, make_result, provenance

    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit must be 1 or more, got {options.limit}")
    if options.template is not None:
        raise ConfigError("--template does not go with --tasks: each task words its own prompts")
    options.tasks = [str(user_path(name, "--tasks")) for name in options.tasks]
    check_harness()
    check_task_files(options.tasks, options.trust_remote_code)  # before the weights are read
    # Something has to be there for a model that answers; no prompt of it is used.
    options.template = "plain"
    with quiet():
        answerer = answerer_of("evaluate", options, options.rest)
        found = capability(
            answerer.model,
            answerer.tokenizer,
            options.tasks,
            batch_size=options.batch_size,
            limit=options.limit,
            seed=options.seed,
            trust_remote_code=options.trust_remote_code,
        )
    inputs = [InputFile.read("task", path) for name in options.tasks if (path := Path(name)).is_file()]
    kept = {name: answerer.settings[name] for name in ("dtype", "device")}
    settings = {**kept, "tasks": options.tasks, "limit": options.limit, "batch_size": options.batch_size}
    return [make_result("capability", answerer.name, found, provenance(inputs, settings, options.seed))]


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result for people."""
    console.print(Text(f"{result['label']}: lm-evaluation-harness {result['harness_version']}"))
    table = Table("task", "examples", "metric", "value", "standard error", box=None)
    for name, metrics in result["tasks"].items():
        shots = result["n_shot"].get(name)
        for metric, value in metrics.items():
            base, comma, chosen = metric.partition(",")
            if base.endswith("_stderr") or value is None:
                continue
            error = metrics.get(f"{base}_stderr{comma}{chosen}")
            shown = "-" if error is None else f"{error:.4f}"
            table.add_row(Text(name), "-" if shots is None else str(shots), Text(metric), f"{value:.4f}", shown)
    console.print(table)
    if result["provenance"]["settings"]["limit"] is not None:
        console.print(Text("the first documents of each task only: not comparable with published numbers"))
