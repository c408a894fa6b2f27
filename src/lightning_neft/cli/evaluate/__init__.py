"""The verb evaluate: chooses the kind of evaluation by its option, runs it, and prints and writes its results."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import resolve_configs
from lightning_neft.cli.evaluate.files import check_out, write_results
from lightning_neft.cli.keys import check_early
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.errors import ConfigError

__all__ = ["run"]

# The option that selects a kind, its class, and the kind of its result. The first one given wins: a later one may be
# an input of an earlier one.
_KINDS = {
    "--clean-loss": ("overfitting.CleanLossKind", "clean_loss"),
    "--memorization": ("overfitting.MemorizationKind", "memorization"),
    "--judge": ("judge.JudgeKind", "win_rate"),
    "--ablation": ("answering.AblationKind", "length_ablation"),
    "--tasks": ("answering.TasksKind", "capability"),
    "--annotations": ("answer_files.AnnotationsKind", "win_rate"),
    "--outputs": ("answer_files.OutputsKind", "text_statistics"),
}
_MINIMUM = {
    "seed": 0,
    **dict.fromkeys(("limit", "batch_size", "min_new_tokens", "max_new_tokens", "workers", "attempts"), 1),
}


class _Kind(Protocol):
    """A kind of evaluation.

    `takes_config` says whether unknown options are those of a config; `run` gets them as `options.rest`.
    """

    takes_config: bool

    def add_options(self, parser: VerbParser) -> None: ...

    def run(self, options: Namespace) -> list[dict[str, Any]]: ...

    def show(self, result: dict[str, Any], console: Console) -> None: ...


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: evaluate.
        args: The command line after it.

    Raises:
        ConfigError: An option is wrong or missing.
        DataError: A file cannot be read, or has another format.
        ModelError: A model cannot be loaded.
    """
    given = [argument.partition("=")[0] for argument in args]
    option = next((option for option in _KINDS if option in given), None)
    if option is None:
        hints = filter(None, (did_you_mean(name, _KINDS) for name in given))
        hint = next(hints, "see lightning_neft evaluate --help")
        raise ConfigError(f"evaluate needs one of {', '.join(_KINDS)}; {hint}")
    if option == "--outputs" and "--baseline" in given:
        raise ConfigError("evaluate: --baseline needs a judge; give --judge NAME too, or omit it")
    name, result_kind = _KINDS[option]
    module, _, kind_class = name.partition(".")
    kind: _Kind = getattr(import_module(f"lightning_neft.cli.evaluate.{module}"), kind_class)()
    options = _parse(verb, args, kind)
    check_out(options.out, result_kind, options)
    # Libraries may print; standard output is for the JSON object.
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        results = kind.run(options)
        # Whoever reads the object has the result.
        paths = [] if options.json and options.out is None else write_results(results, options)
    if options.json:
        found = results[0] if len(results) == 1 else {"results": results}
        print(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
        return
    console = Console()
    for result in results:
        kind.show(result, console)
    for path in paths:
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


def _parse(verb: str, args: Sequence[str], kind: _Kind) -> Namespace:
    """Return the options; `inputs` are the files that no output may replace."""
    parser = VerbParser(verb)
    kind.add_options(parser)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--json", action="store_true")
    options, rest = parser.parse_known(args) if kind.takes_config else (parser.parse(args), [])
    options.rest = rest
    check_early(rest)
    for name, minimum in _MINIMUM.items():
        value = getattr(options, name, None)
        if value is not None and value < minimum:
            raise ConfigError(f"--{name.replace('_', '-')} must be {minimum} or more, got {value}")
    _, configs = resolve_configs(rest)
    paths = [path for option, paths in parser.paths(options).items() if option != "--out" for path in paths]
    options.inputs = [*configs, *paths]
    return options
