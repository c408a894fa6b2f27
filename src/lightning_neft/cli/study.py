"""The verb study: one recipe with several alphas and seeds, in pairs that differ in the noise alone."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentError, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import resolve_configs, run_name
from lightning_neft.cli.program_keys import check_early
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.paths import file_in_the_way
from lightning_neft.common.secrets import mask
from lightning_neft.errors import ConfigError
from lightning_neft.study.plan import PRUNERS, SAMPLERS, Plan, is_study, parse_alphas, parse_search

if TYPE_CHECKING:
    from lightning_neft.study.child import Child

__all__ = ["run"]

_RESULT, _REPORT = "study.json", "report.html"
_FAILED = 1
# In processes of their own: this one stays free of torch, and so of the device.
_DESCRIBE, _RUN_ARM = "lightning_neft.cli.study_arm:describe", "lightning_neft.cli.study_arm:start_arm"
# What arms differ in, or where the study puts them, and what says so instead.
_OWN = {
    "--neftune": "--alphas",
    "--neftune.alpha": "--alphas",
    "--neftune.seed": "--seeds",
    "--seed_everything": "--seeds",
    "--name": "--out",
    "--trainer.default_root_dir": "--out",
    "--trainer.logger": "--out",
    "--ckpt_path": "the same command again, which resumes the study",
}
# Keys of the program whose names are near to those of the verb's own options.
_LIKE_OURS = ("--samples",)


def run(verb: str, args: Sequence[str]) -> int:
    """Run the verb.

    Args:
        verb: study.
        args: The command line after it.

    Returns:
        The exit code: 0, or 1 if an arm failed, or that of a process which the signal ended if it was stopped by one.

    Raises:
        ConfigError: An option is wrong or missing.
    """
    if "--help" in args:
        return _help_of_arms()
    if missing := [name for name in ("optuna", "matplotlib", "jinja2") if find_spec(name) is None]:
        raise ConfigError(f"study needs {' and '.join(missing)}: pip install 'lightning-neft[study]'")
    options, rest = _parse(args)
    check_early(rest)
    if options.memorization:
        from lightning_neft.evaluation.memorization import check_libraries

        check_libraries()
    plan = _plan(options, rest)
    from lightning_neft.study.worker import Stopped

    # What libraries print is not part of the object.
    with redirect_stdout(sys.stderr if options.json else sys.stdout), _storage_errors():
        try:
            result = _run(plan, options, rest)
        except Stopped as stopped:
            at = f"; alpha {stopped.arm.alpha:g}, seed {stopped.arm.seed} is saved" if stopped.arm else ""
            line = f"study stopped by {stopped.signal.name}{at}; repeat the command to resume"
            print(f"lightning_neft: {line}", file=sys.stderr)
            return 128 + stopped.signal
    if options.json:
        print(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False))
    return _FAILED if any(arm["state"] == "failed" for arm in result["arms"]) else 0


def _run(plan: Plan, options: Namespace, rest: tuple[str, ...]) -> dict[str, Any]:
    # The first process of a study takes seconds to start; what comes below is imported in the meantime.
    from lightning_neft.study.child import Child

    with TemporaryDirectory() as temporary:
        log = Path(temporary) / "log.txt"
        child = Child(_DESCRIBE, rest, log)
        from lightning_neft.cli.study_display import Display
        from lightning_neft.study.arm import Measures
        from lightning_neft.study.queue import ArmQueue
        from lightning_neft.study.result import write_study
        from lightning_neft.study.worker import Worker

        try:
            description = _description(child, log)
        finally:
            child.kill()
    queue = ArmQueue(
        plan, url=options.storage, config=description["config"], pruner=options.pruner, grace=options.grace
    )
    if options.retry:
        queue.retry()
    settings = {
        "args": mask(list(rest)),
        "data_digest": description["data_digest"],
        **{name: getattr(options, name) for name in ("pruner", "answers", "max_new_tokens", "memorization")},
        **({"search": options.search, "trials": options.trials, "sampler": options.sampler} if plan.search else {}),
    }
    path = plan.folder / _RESULT

    def write() -> dict[str, Any]:
        return write_study(path, plan, description["recipe"], queue.states(), description["inputs"], settings)

    display = Display(plan, write)
    display.plan(queue.states(), description, "SQLite in it" if options.storage is None else "by --storage")
    measures = Measures(options.answers, options.max_new_tokens, options.memorization)
    if (precision := description["precision"]) is not None:
        # Chosen once, for arms that other machines run as well.
        rest = (*rest, f"--trainer.precision={precision}")
    worker = Worker(queue, _RUN_ARM, rest, measures, options.grace, display)
    with display:
        ended_last = worker.run()
    result = write()
    page = plan.folder / _REPORT
    # Of several workers one writes it.
    if ended_last or not page.exists():
        from lightning_neft.report.write import write_report

        write_report([path], page, overwrite=True)
    display.summary(result, path, page)
    return result


def _help_of_arms() -> int:
    from lightning_neft.cli.program import Program

    Program("study", ["--help"])
    return 0


def _description(child: Child, log: Path) -> dict[str, Any]:
    """Return what the first process says about the config."""
    from lightning_neft.study.child import Failed, describe_exit

    while (code := child.exit_code) is None:
        message = child.message(seconds=1)
        if isinstance(message, Failed):
            raise ConfigError(message.error)
        if message is not None:
            found: dict[str, Any] = message
            return found
    last = (log.read_text(encoding="utf-8").splitlines() or ["it printed nothing"])[-1]
    raise ConfigError(f"the config cannot be looked at: {describe_exit(code)}; {last}")


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Say in a line that the database is gone; what the arms wrote is in the folder."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        raise ConfigError(
            f"the storage does not answer: {error.__cause__ or error}; repeat the command once it does"
        ) from error


def _parser() -> VerbParser:
    parser = VerbParser("study")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--alphas")
    which.add_argument("--search")
    parser.add_argument("--trials", type=_count, default=10)
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe")
    parser.add_argument("--seeds", type=_count, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--storage")
    parser.add_argument("--pruner", choices=PRUNERS, default="none")
    parser.add_argument("--grace", type=_count, default=60)
    parser.add_argument("--answers", type=_count_or_none, default=20)
    parser.add_argument("--max-new-tokens", type=_count, default=256)
    parser.add_argument("--memorization", type=_count_or_none, default=0)
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


def _parse(args: Sequence[str]) -> tuple[Namespace, tuple[str, ...]]:
    """Return the options of the verb, and the program's for the arms.

    Raises:
        ConfigError: If one is wrong, or is for the study to set.
    """
    parser = _parser()
    try:
        options, rest = parser.parse_known_args(list(args))
    except ArgumentError as error:
        raise ConfigError(f"study: {error}") from error
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in rest:
        name = argument.partition("=")[0]
        if name in _OWN:
            raise ConfigError(f"study: {name} is set for each arm; give {_OWN[name]} instead")
        # A misspelt option of the verb would be looked for among the keys of the program.
        if not name.startswith("--") or "." in name or name in _LIKE_OURS:
            continue
        if hint := did_you_mean(name, known, cutoff=0.75):
            raise ConfigError(f"study: unknown option {name}; {hint}")
    return options, tuple(rest)


def _plan(options: Namespace, rest: Sequence[str]) -> Plan:
    _, files = resolve_configs(rest)
    folder = options.out or Path("runs") / f"study-{run_name(files).replace('/', '-')}"
    # Before the first process, which takes seconds.
    if file := file_in_the_way(folder):
        raise ConfigError(f"--out {folder}: {file} is a file; give a folder that can be written")
    if not is_study(folder):
        for name in (_RESULT, _REPORT):
            if os.path.lexists(folder / name):
                raise ConfigError(f"--out {folder}: {name} is there and is not of a study in it; give another folder")
    seeds = tuple(range(options.seeds))
    if options.search is None:
        return Plan(folder, parse_alphas(options.alphas), seeds)
    return Plan(folder, (0.0,), seeds, parse_search(options.search, options.trials, options.sampler))


def _count(text: str) -> int:
    number = _count_or_none(text)
    if number == 0:
        raise ArgumentTypeError("give 1 or more")
    return number


def _count_or_none(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise ArgumentTypeError(f"got {text!r}, give a count")
    return number
