"""Chooses the kind of evaluation by its option, runs it, and shows, prints and writes its results."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from rich.console import Console

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import resolve_configs
from lightning_neft.cli.evaluate.files import check_out, write_results
from lightning_neft.cli.keys import check_early
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.errors import ConfigError

__all__ = ["run"]

# The option that asks for a kind, and the module that does it. The first one that is given counts: the later ones are
# also what an earlier one may work on.
_KINDS = {
    "--clean-loss": "clean_loss",
    "--memorization": "memorization",
    "--judge": "judge",
    "--ablation": "length_ablation",
    "--tasks": "capability",
    "--annotations": "win_rate",
    "--outputs": "text_statistics",
}


# The kind of the result, where it has another name than the module.
_RESULTS = {"judge": "win_rate"}

# The least of options that several kinds have.
_LEAST = {"batch_size": 1, "seed": 0}


class _Kind(Protocol):
    """What the module of a kind has.

    `takes_config` says whether options that it does not know are those of a config: it gets them as `options.rest`.
    """

    takes_config: bool

    def add_options(self, parser: VerbParser) -> None: ...

    def run(self, options: Any) -> list[dict[str, Any]]: ...

    def show(self, result: dict[str, Any], console: Console) -> None: ...


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: evaluate.
        args: The command line after it.

    Raises:
        ConfigError: An option is wrong or missing.
        DataError: A file cannot be read, or holds something else.
        ModelError: A model cannot be loaded.
    """
    given = [argument.partition("=")[0] for argument in args]
    module = next((module for option, module in _KINDS.items() if option in given), None)
    if module is None:
        hints = filter(None, (did_you_mean(option, _KINDS) for option in given))
        hint = next(hints, "see lightning_neft evaluate --help")
        raise ConfigError(f"evaluate needs to know what: one of {', '.join(_KINDS)}; {hint}")
    if module == "text_statistics" and "--baseline" in given:
        raise ConfigError("evaluate: --baseline needs a judge; give --judge NAME too, or omit it")
    kind = cast("_Kind", import_module(f"lightning_neft.cli.evaluate.{module}"))
    parser = VerbParser(verb)
    kind.add_options(parser)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--json", action="store_true")
    if kind.takes_config:
        options, rest = parser.parse_known(args)
        check_early(rest)
        options.rest = rest
    else:
        options = parser.parse(args)
    for name, least in _LEAST.items():
        value = getattr(options, name, None)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} must be {least} or more, got {value}")
    options.inputs = _inputs(parser, options)
    check_out(options.out, _RESULTS.get(module, module), options)
    # What libraries print is not part of the object.
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        results = kind.run(options)
        # Somebody who reads the object has the result.
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


def _inputs(parser: VerbParser, options: Namespace) -> list[Path]:
    """Return the files of a command line that no output may replace."""
    _, configs = resolve_configs(getattr(options, "rest", []))
    return [*configs, *(path for option, paths in parser.paths(options).items() if option != "--out" for path in paths)]
